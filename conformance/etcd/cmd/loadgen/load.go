package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// load is the state that phases share. An object belongs to one worker at a time, and only the
// phases change objects, so nothing here is locked.
type load struct {
	opts     options
	clients  []*kubernetes.Client
	user     string // as whom new clients log in, if it is set
	password string
	objects  []object
	order    []int // a fixed shuffle: a cluster's keys do not come in key order
	filler   []byte
	epoch    time.Time // values carry times since then, by the monotonic clock
	start    int64     // revision before the first phase
	writes   atomic.Int64
}

// object is what this process knows of a key from the answers to its own writes.
type object struct {
	created  int64
	revision int64
	version  int64
}

func newLoad(opts options) (*load, error) {
	seeded := rand.New(rand.NewPCG(1, 2))
	l := &load{
		opts:    opts,
		objects: make([]object, opts.objects),
		order:   seeded.Perm(opts.objects),
		filler:  make([]byte, opts.valueBytes+fillerShifts),
		epoch:   time.Now(),
	}
	for i := range l.filler {
		l.filler[i] = byte(seeded.Uint32())
	}
	return l, l.connect()
}

// connect makes the clients that workers share, in the place of those there are.
func (l *load) connect() error {
	l.close()
	l.clients = nil
	for i := range l.opts.connections {
		client, err := l.dial(l.opts.endpoints[i%len(l.opts.endpoints)])
		if err != nil {
			return err
		}
		l.clients = append(l.clients, client)
	}
	return nil
}

// dial makes a client with a connection of its own.
func (l *load) dial(endpoint string) (*kubernetes.Client, error) {
	config := clientv3.Config{
		Endpoints:            []string{endpoint},
		DialTimeout:          20 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Username:             l.user,
		Password:             l.password,
		Logger:               zap.NewNop(), // stderr has one sentence, and only if a run fails
	}
	if l.secure() {
		tls, err := l.opts.tls.ClientConfig()
		if err != nil {
			return nil, err
		}
		config.TLS = tls
	}
	return kubernetes.New(config)
}

// secure says whether connections use TLS.
func (l *load) secure() bool {
	return !l.opts.tls.Empty() || l.opts.tls.TrustedCAFile != ""
}

func (l *load) close() {
	for _, client := range l.clients {
		// What a run has measured stands, however its connections end.
		_ = client.Close()
	}
}

func (l *load) key(i int) string {
	return fmt.Sprintf("%spod-%08d", l.opts.prefix, i)
}

// begin opens every connection, so that no phase pays for a handshake, and learns the starting
// state: an empty prefix, or the objects that an earlier run has left.
func (l *load) begin(ctx context.Context) error {
	for _, client := range l.clients {
		count, err := client.KV.Get(ctx, l.opts.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		want := int64(l.opts.objects)
		if l.opts.startsEmpty() {
			want = 0
		}
		if count.Count != want {
			return fmt.Errorf("%d objects under %s, want %d", count.Count, l.opts.prefix, want)
		}
		l.start = count.Header.Revision
	}
	if l.opts.startsEmpty() {
		return nil
	}
	pages, _, err := l.pages(ctx)
	if err != nil {
		return err
	}
	for i, kv := range pages.kvs {
		l.objects[i] = object{created: kv.CreateRevision, revision: kv.ModRevision, version: kv.Version}
	}
	return l.checkList(pages.kvs, pages.count, pages.revision)
}

// worker is one of the callers in flight. It checks that the store never goes back in time.
type worker struct {
	*load
	client *kubernetes.Client
	seen   int64 // highest revision in any answer to this worker
}

func (l *load) newWorker(i int) *worker {
	return &worker{load: l, client: l.clients[i%len(l.clients)], seen: l.start}
}

// operation is one request about object i.
type operation func(ctx context.Context, w *worker, i int) error

// forEach runs the operation once for each object, all workers at once, and measures each.
func (l *load) forEach(ctx context.Context, op operation) (*measurement, error) {
	return l.repeatedly(ctx, len(l.order), op)
}

// repeatedly runs the operation so many times, in turn on each object. Two turns on one object may
// be in flight together unless total is at most the number of objects.
func (l *load) repeatedly(ctx context.Context, total int, op operation) (*measurement, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([]time.Duration, total)
	var next atomic.Int64
	var group sync.WaitGroup
	started := time.Now()
	for number := range l.opts.workers {
		group.Go(func() {
			w := l.newWorker(number)
			for ctx.Err() == nil {
				turn := int(next.Add(1)) - 1
				if turn >= total {
					return
				}
				object := l.order[turn%len(l.order)]
				sent := time.Now()
				if err := l.once(ctx, op, w, object); err != nil {
					cancel(fmt.Errorf("%s: %w", l.key(object), err))
					return
				}
				latencies[turn] = time.Since(sent)
			}
		})
	}
	group.Wait()
	elapsed := time.Since(started)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return rate(latencies, elapsed), nil
}

func (l *load) once(ctx context.Context, op operation, w *worker, i int) error {
	ctx, cancel := context.WithTimeout(ctx, l.opts.opTimeout)
	defer cancel()
	return op(ctx, w, i)
}
