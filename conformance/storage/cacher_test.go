package storage

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/example"
	"k8s.io/apiserver/pkg/features"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/cacher"
	etcdfeature "k8s.io/apiserver/pkg/storage/feature"
	suites "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// TestCacher runs the suites on an API server's watch cache, which is fed by the datastore.
func TestCacher(t *testing.T) {
	for _, each := range append(cachedObjects, append(cachedLists(), cachedWatches...)...) {
		t.Run(each.name, func(t *testing.T) {
			each.gates.set(t)
			rig := newRig(t, each.need, "/registry")
			rig.addCache(t, apistorage.NamespaceKeyFunc)
			each.run(t, rig)
		})
	}
	t.Run("ClusterScopedWatch", func(t *testing.T) {
		rig := newRig(t, shared, "")
		rig.addCache(t, apistorage.NoNamespaceKeyFunc)
		suites.RunTestClusterScopedWatch(rig.ctx, t, rig)
	})
}

type keyFunction func(prefix string, object runtime.Object) (string, error)

// addCache puts the watch cache before the storage, once it is filled.
func (r *rig) addCache(t *testing.T, key keyFunction) {
	t.Helper()
	const prefix = "/pods/"
	made, err := cacher.NewCacherFromConfig(cacher.Config{
		Storage:             r.store,
		Versioner:           versioner,
		GroupResource:       pods,
		EventsHistoryWindow: cacher.DefaultEventFreshDuration,
		ResourcePrefix:      prefix,
		KeyFunc:             func(object runtime.Object) (string, error) { return key(prefix, object) },
		GetAttrsFunc:        podAttributes,
		NewFunc:             newPod,
		NewListFunc:         newPodList,
		IndexerFuncs:        map[string]apistorage.IndexerFunc{"spec.nodeName": nodeName},
		Indexers: &cache.Indexers{
			"f:spec.nodeName":      func(object any) ([]string, error) { return []string{nodeName(object.(*example.Pod))}, nil },
			"f:metadata.namespace": func(object any) ([]string, error) { return []string{object.(*example.Pod).Namespace}, nil },
		},
		Codec: r.codec,
		Clock: clock.RealClock{},
	})
	if err != nil {
		t.Fatal(err)
	}
	delegator := cacher.NewCacheDelegator(made, r.store)
	t.Cleanup(func() {
		delegator.Stop()
		made.Stop()
	})
	ctx, cancel := context.WithTimeout(r.ctx, readyWithin)
	defer cancel()
	if err := made.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	// An API server asks its datastore for the version once it runs, and until then does not trust it.
	for !etcdfeature.DefaultFeatureSupportChecker.Supports(apistorage.RequestWatchProgress) {
		select {
		case <-ctx.Done():
			t.Fatal("the storage never learnt that watches can be asked for their progress")
		case <-time.After(10 * time.Millisecond):
		}
	}
	r.Interface, r.cached = delegator, made
}

func nodeName(object runtime.Object) string { return object.(*example.Pod).Spec.NodeName }

func podAttributes(object runtime.Object) (labels.Set, fields.Set, error) {
	pod, ok := object.(*example.Pod)
	if !ok {
		return nil, nil, fmt.Errorf("%T is no pod", object)
	}
	return pod.Labels, fields.Set{
		"metadata.name":      pod.Name,
		"metadata.namespace": pod.Namespace,
		"spec.nodeName":      pod.Spec.NodeName,
		"spec.restartPolicy": string(pod.Spec.RestartPolicy),
		"status.phase":       string(pod.Status.Phase),
	}, nil
}

// settled is a storage whose objects are in the cache when Create returns.
type settled struct{ *rig }

func (s settled) Create(ctx context.Context, key string, object, out runtime.Object, ttl uint64) error {
	if err := s.rig.Create(ctx, key, object, out, ttl); err != nil {
		return err
	}
	return wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, readyWithin, true, func(ctx context.Context) (bool, error) {
		found := newPod()
		err := s.Get(ctx, key, apistorage.GetOptions{ResourceVersion: "0"}, found)
		if apistorage.IsNotFound(err) {
			return false, nil
		}
		return equality.Semantic.DeepEqual(found, out), err
	})
}

// unchecked are checks of what lies below, which the cache's users do not see.
func unchecked(context.Context, *testing.T, string) {}
func uncounted(*testing.T, uint64, uint64)          {}

var cachedObjects = []suite{
	{name: "Create", run: func(t *testing.T, r *rig) { suites.RunTestCreate(r.ctx, t, r, unchecked) }},
	{name: "CreateWithTTL", run: func(t *testing.T, r *rig) { suites.RunTestCreateWithTTL(r.ctx, t, r) }},
	{name: "CreateWithKeyExist", run: func(t *testing.T, r *rig) { suites.RunTestCreateWithKeyExist(r.ctx, t, r) }},
	{name: "Get", need: fresh, run: func(t *testing.T, r *rig) { suites.RunTestGet(r.ctx, t, r) }},
	{name: "UnconditionalDelete", run: func(t *testing.T, r *rig) { suites.RunTestUnconditionalDelete(r.ctx, t, r) }},
	{name: "ConditionalDelete", run: func(t *testing.T, r *rig) { suites.RunTestConditionalDelete(r.ctx, t, r) }},
	{name: "DeleteWithSuggestion", run: func(t *testing.T, r *rig) { suites.RunTestDeleteWithSuggestion(r.ctx, t, r) }},
	{name: "DeleteWithSuggestionAndConflict", run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteWithSuggestionAndConflict(r.ctx, t, r)
	}},
	{name: "DeleteWithConflict", run: func(t *testing.T, r *rig) { suites.RunTestDeleteWithConflict(r.ctx, t, r) }},
	{name: "DeleteWithSuggestionOfDeletedObject", run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteWithSuggestionOfDeletedObject(r.ctx, t, r)
	}},
	{name: "ValidateDeletionWithSuggestion", run: func(t *testing.T, r *rig) {
		suites.RunTestValidateDeletionWithSuggestion(r.ctx, t, r)
	}},
	{name: "ValidateDeletionWithOnlySuggestionValid", run: func(t *testing.T, r *rig) {
		suites.RunTestValidateDeletionWithOnlySuggestionValid(r.ctx, t, r)
	}},
	{name: "PreconditionalDeleteWithSuggestion", run: func(t *testing.T, r *rig) {
		suites.RunTestPreconditionalDeleteWithSuggestion(r.ctx, t, r)
	}},
	{name: "PreconditionalDeleteWithOnlySuggestionPass", run: func(t *testing.T, r *rig) {
		suites.RunTestPreconditionalDeleteWithOnlySuggestionPass(r.ctx, t, r)
	}},
	{name: "DeleteWithConflictAndMissingExpectedTransformOrDecodeError", gates: unsafeDelete, run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteWithConflictAndMissingExpectedTransformOrDecodeError(r.ctx, t, r, r.transformer.broken.Store)
	}},
	{name: "DeleteExpectedTransformError", gates: unsafeDelete, run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteExpectedTransformOrDecodeError(r.ctx, t, r, r.transformer.broken.Store)
	}},
	{name: "DeleteWithSuggestionAndMissingExpectedTransformOrDecodeError", gates: unsafeDelete, run: func(t *testing.T, r *rig) {
		suites.RunTestDeleteWithSuggestionAndMissingExpectedTransformOrDecodeError(r.ctx, t, r)
	}},
	{name: "GuaranteedUpdateWithTTL", run: func(t *testing.T, r *rig) { suites.RunTestGuaranteedUpdateWithTTL(r.ctx, t, r) }},
	{name: "GuaranteedUpdateWithConflict", run: func(t *testing.T, r *rig) {
		suites.RunTestGuaranteedUpdateWithConflict(r.ctx, t, r)
	}},
	{name: "GuaranteedUpdateWithSuggestionAndConflict", run: func(t *testing.T, r *rig) {
		suites.RunTestGuaranteedUpdateWithSuggestionAndConflict(r.ctx, t, r)
	}},
	{name: "KeySchema", run: func(t *testing.T, r *rig) { suites.RunTestKeySchema(r.ctx, t, r) }},
	{name: "CompactRevision", need: fresh, gates: snapshots, run: func(t *testing.T, r *rig) {
		suites.RunTestCompactRevision(r.ctx, t, r, r.increase, r.compactUntilKnown)
	}},
	{name: "Stats", gates: gates{features.SizeBasedListCostEstimate: false}, run: func(t *testing.T, r *rig) {
		suites.RunTestStats(r.ctx, t, r, r.codec, r.transformer, false)
	}},
	{name: "StatsOfSizes", gates: gates{features.SizeBasedListCostEstimate: true}, run: func(t *testing.T, r *rig) {
		suites.RunTestStats(r.ctx, t, r, r.codec, r.transformer, true)
	}},
}

func cachedLists() []suite {
	all := []suite{
		{name: "ListPaging", run: func(t *testing.T, r *rig) { suites.RunTestListPaging(r.ctx, t, r) }},
		{name: "NamespaceScopedList", run: func(t *testing.T, r *rig) { suites.RunTestNamespaceScopedList(r.ctx, t, r) }},
		{name: "GetListRecursivePrefix", run: func(t *testing.T, r *rig) { suites.RunTestGetListRecursivePrefix(r.ctx, t, r) }},
		{name: "ListContinuation", run: func(t *testing.T, r *rig) { suites.RunTestListContinuation(r.ctx, t, r, uncounted) }},
		{name: "ListPaginationRareObject", run: func(t *testing.T, r *rig) {
			suites.RunTestListPaginationRareObject(r.ctx, t, r, uncounted)
		}},
		{name: "ListContinuationWithFilter", run: func(t *testing.T, r *rig) {
			suites.RunTestListContinuationWithFilter(r.ctx, t, r, uncounted)
		}},
	}
	for _, on := range []bool{false, true} {
		named := func(name string) string { return fmt.Sprintf("%s/ListFromCacheSnapshot=%t", name, on) }
		chosen := gates{features.ListFromCacheSnapshot: on}
		all = append(all,
			suite{name: named("List"), need: fresh, gates: chosen, run: func(t *testing.T, r *rig) {
				suites.RunTestList(r.ctx, t, r, r.compact, true, r.client.Kubernetes.(*suites.KubernetesRecorder))
			}},
			suite{name: named("ConsistentList"), gates: chosen, run: func(t *testing.T, r *rig) {
				suites.RunTestConsistentList(r.ctx, t, r, r.increase, true, true, on)
			}},
			suite{name: named("GetListNonRecursive"), need: fresh, gates: chosen, run: func(t *testing.T, r *rig) {
				suites.RunTestGetListNonRecursive(r.ctx, t, r.increase, r)
			}})
	}
	return all
}

var cachedWatches = []suite{
	{name: "Watch", run: func(t *testing.T, r *rig) { suites.RunTestWatch(r.ctx, t, r) }},
	{name: "NamespaceScopedWatch", run: func(t *testing.T, r *rig) { suites.RunTestNamespaceScopedWatch(r.ctx, t, r) }},
	{name: "DeleteTriggerWatch", run: func(t *testing.T, r *rig) { suites.RunTestDeleteTriggerWatch(r.ctx, t, r) }},
	{name: "WatchFromNonZero", run: func(t *testing.T, r *rig) { suites.RunTestWatchFromNonZero(r.ctx, t, r) }},
	{name: "DelayedWatchDelivery", run: func(t *testing.T, r *rig) { suites.RunTestDelayedWatchDelivery(r.ctx, t, r) }},
	{name: "WatcherTimeout", run: func(t *testing.T, r *rig) { suites.RunTestWatcherTimeout(r.ctx, t, r) }},
	{name: "WatchDeleteEventObjectHaveLatestRV", run: func(t *testing.T, r *rig) {
		suites.RunTestWatchDeleteEventObjectHaveLatestRV(r.ctx, t, r)
	}},
	{name: "WatchInitializationSignal", run: func(t *testing.T, r *rig) {
		suites.RunTestWatchInitializationSignal(r.ctx, t, r)
	}},
	{name: "WatchDispatchBookmarkEvents", run: func(t *testing.T, r *rig) {
		suites.RunTestWatchDispatchBookmarkEvents(r.ctx, t, r, true)
	}},
	{name: "WatchBookmarksWithCorrectResourceVersion", run: func(t *testing.T, r *rig) {
		suites.RunTestOptionalWatchBookmarksWithCorrectResourceVersion(r.ctx, t, r)
	}},
	{name: "SendInitialEventsBackwardCompatibility", run: func(t *testing.T, r *rig) {
		suites.RunSendInitialEventsBackwardCompatibility(r.ctx, t, r)
	}},
	{name: "WatchSemantics", need: fresh, run: func(t *testing.T, r *rig) { suites.RunWatchSemantics(r.ctx, t, settled{r}) }},
	{name: "WatchSemanticInitialEventsExtended", run: func(t *testing.T, r *rig) {
		suites.RunWatchSemanticInitialEventsExtended(r.ctx, t, settled{r})
	}},
	{name: "WatchListMatchSingle", run: func(t *testing.T, r *rig) { suites.RunWatchListMatchSingle(r.ctx, t, settled{r}) }},
}
