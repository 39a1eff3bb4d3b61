package storage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/features"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	"k8s.io/apiserver/pkg/storage/etcd3"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/utils/clock"
)

const valuePrefix = "stored:"

var (
	scheme    = runtime.NewScheme()
	codecs    = serializer.NewCodecFactory(scheme)
	versioner = apistorage.APIObjectVersioner{}
	prefixes  atomic.Int64
)

func init() {
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
}

// rig is a storage on a datastore, and what suites turn on it.
type rig struct {
	apistorage.Interface
	ctx         context.Context
	client      *kubernetes.Client
	codec       *breakableCodec
	transformer *changeable
	prefix      string
	// store is the storage itself, under cached if that stands before it.
	store  apistorage.Interface
	cached *cacher.Cacher
}

// newRig puts Kubernetes' own storage on a server as an API server does. The prefix, which suites
// look for, is that of a fresh server.
func newRig(t *testing.T, wanted need, prefix string) *rig {
	t.Helper()
	made := &rig{
		ctx:         context.Background(),
		client:      serverFor(t, wanted).connect(t),
		codec:       &breakableCodec{Codec: apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion)},
		transformer: newChangeable(storagetesting.NewPrefixTransformer([]byte(valuePrefix), false)),
		prefix:      prefix,
	}
	if wanted == shared {
		made.prefix = fmt.Sprintf("/registry-%d", prefixes.Add(1))
	}
	compactor := etcd3.NewCompactor(made.client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	leases := etcd3.NewDefaultLeaseManagerConfig()
	leases.ReuseDurationSeconds = 1 // suites wait for expiry
	store, err := etcd3.New(made.client, compactor, made.codec, newPod, newPodList, made.prefix,
		"/pods/", schema.GroupResource{Resource: "pods"}, made.transformer, leases,
		etcd3.NewDefaultDecoder(made.codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	made.Interface, made.store = store, store
	return made
}

func newPod() runtime.Object     { return &example.Pod{} }
func newPodList() runtime.Object { return &example.PodList{} }

// stored checks what lies in the datastore itself.
func (r *rig) stored(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	found, err := r.client.KV.Get(ctx, r.prefix+key)
	if err != nil || len(found.Kvs) != 1 {
		t.Fatalf("%s: %v, %v", key, found, err)
	}
	object, err := runtime.Decode(r.codec, found.Kvs[0].Value[len(valuePrefix):])
	if err != nil {
		t.Fatal(err)
	}
	if pod := object.(*example.Pod); pod.ResourceVersion != "" || pod.SelfLink != "" {
		t.Errorf("%s is stored with resource version %q, self link %q", key, pod.ResourceVersion, pod.SelfLink)
	}
}

// increase makes a revision that is not of any pod.
func (r *rig) increase(ctx context.Context, t *testing.T) int64 {
	t.Helper()
	put, err := r.client.Put(ctx, "increased", "x")
	if err != nil {
		t.Fatal(err)
	}
	return put.Header.Revision
}

// compact compacts as an API server does, and waits until the storage knows.
func (r *rig) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	revision, err := versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	at, _, _, err := etcd3.Compact(ctx, r.client.Client, 0, int64(revision))
	if err != nil { // somebody compacted before: once more, at the time learnt
		_, _, _, err = etcd3.Compact(ctx, r.client.Client, at, int64(revision))
	}
	if err != nil {
		t.Fatal(err)
	}
	if !utilfeature.DefaultFeatureGate.Enabled(features.ListFromCacheSnapshot) {
		return // nobody is to know
	}
	knows(t, r.store, int64(revision), 10*time.Second)
	if r.cached != nil {
		if err := r.cached.Compact(resourceVersion); err != nil {
			t.Fatal(err)
		}
	}
}

// compactUntilKnown is compact, and waits until the cache has looked by itself.
func (r *rig) compactUntilKnown(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	r.compact(ctx, t, resourceVersion)
	knows(t, r, r.store.CompactRevision(), 20*time.Second)
}

// knows waits until a storage has heard of a compaction.
func knows(t *testing.T, who apistorage.Interface, revision int64, within time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(within); who.CompactRevision() != revision; {
		if time.Now().After(deadline) {
			t.Fatalf("compacted at %d, and the storage knows of %d", revision, who.CompactRevision())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// keys lists the keys of all pods, for estimates of their sizes.
func (r *rig) keys(ctx context.Context) ([]string, error) {
	found, err := r.client.KV.Get(ctx, r.prefix+"/pods/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, kv := range found.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys, nil
}

// calls checks how many requests a list took: one, or pages that double in size.
func (r *rig) calls(t *testing.T, pageSize, objects uint64) {
	t.Helper()
	const largest = 10_000
	if read := r.transformer.plain.GetReadsAndReset(); read != objects {
		t.Errorf("%d objects were read, not %d", read, objects)
	}
	expected := uint64(1)
	if pageSize != 0 {
		for page, covered := pageSize, uint64(1); covered < objects; expected++ {
			page = min(2*page, largest)
			covered += page
		}
	}
	recorder := r.client.KV.(*storagetesting.KVRecorder)
	if made := recorder.GetReadsAndReset() + recorder.GetStreamReadsAndReset(); made != expected {
		t.Fatalf("%d requests instead of %d", made, expected)
	}
}

// breakableCodec fails to decode when told to.
type breakableCodec struct {
	runtime.Codec
	broken atomic.Bool
}

func (c *breakableCodec) Decode(
	data []byte, defaults *schema.GroupVersionKind, into runtime.Object,
) (runtime.Object, *schema.GroupVersionKind, error) {
	if c.broken.Load() {
		return nil, nil, errors.New("told to fail")
	}
	return c.Codec.Decode(data, defaults, into)
}

// changeable is a transformer that suites replace while the storage uses it.
type changeable struct {
	plain   *storagetesting.PrefixTransformer
	current atomic.Pointer[value.Transformer]
	broken  atomic.Bool
}

func newChangeable(plain *storagetesting.PrefixTransformer) *changeable {
	made := &changeable{plain: plain}
	made.set(plain)
	return made
}

func (c *changeable) set(next value.Transformer) { c.current.Store(&next) }

func (c *changeable) TransformFromStorage(ctx context.Context, data []byte, about value.Context) ([]byte, bool, error) {
	if c.broken.Load() {
		return nil, false, errors.New("told to fail")
	}
	return (*c.current.Load()).TransformFromStorage(ctx, data, about)
}

func (c *changeable) TransformToStorage(ctx context.Context, data []byte, about value.Context) ([]byte, error) {
	return (*c.current.Load()).TransformToStorage(ctx, data, about)
}

// UpdatePrefixTransformer lets a suite put something around the transformer.
func (r *rig) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	copied := *r.transformer.plain
	r.transformer.set(modify(&copied))
	return func() { r.transformer.set(r.transformer.plain) }
}

// UpdateTransformer is the same for any transformer.
func (r *rig) UpdateTransformer(modify storagetesting.TransformerModifier) func() {
	before := *r.transformer.current.Load()
	r.transformer.set(modify(before))
	return func() { r.transformer.set(before) }
}

// corrupt is the error by which the storage itself knows an object that cannot be read.
func corrupt() error {
	failing := &changeable{}
	failing.broken.Store(true)
	_, _, err := etcd3.WithCorruptObjErrorHandlingTransformer(failing).
		TransformFromStorage(context.Background(), nil, nil)
	return err
}
