package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// settleTime is how long watchers stay after the last event, to catch one that comes twice.
const settleTime = 300 * time.Millisecond

// watcher is one watch of the whole prefix and what it has delivered.
type watcher struct {
	*load
	client    *kubernetes.Client
	received  atomic.Int64
	revisions []int64
	latencies []time.Duration
}

// watch starts the watchers, updates objects at a fixed rate, and holds what each watcher got
// against what was acknowledged: every update once, in order. Latency runs from sending the update
// to receiving its event, so a queue anywhere on the way counts.
func (l *load) watch(ctx context.Context) (*measurement, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watchers, group, err := l.startWatchers(watching, fail)
	if err != nil {
		return nil, err
	}
	acknowledged, measured, err := l.updateAtRate(ctx, fail)
	if err != nil {
		return nil, err
	}
	if err := l.drain(ctx, watchers, len(acknowledged)); err != nil {
		return nil, err
	}
	stop()
	group.Wait()
	var latencies []time.Duration
	for number, w := range watchers {
		if !slices.Equal(w.revisions, acknowledged) {
			return nil, fmt.Errorf("watcher %d: %s", number, difference(w.revisions, acknowledged))
		}
		latencies = append(latencies, w.latencies...)
	}
	measured.watched(len(watchers), latencies)
	return measured, context.Cause(ctx)
}

// watchUnderLists is watch while one client with a connection of its own lists everything without
// a pause.
func (l *load) watchUnderLists(ctx context.Context) (*measurement, error) {
	client, err := l.dial(l.opts.endpoints[0])
	if err != nil {
		return nil, err
	}
	defer client.Close()
	listing, stop := context.WithCancel(ctx)
	defer stop()
	var lists int
	ended := make(chan error, 1)
	go func() {
		var err error
		lists, err = l.keepListing(ctx, listing, client)
		ended <- err
	}()
	measured, err := l.watch(ctx)
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return nil, err
	}
	measured.events.Lists = lists
	return measured, nil
}

// keepListing lists everything again and again until the second context ends; a list under way
// then is finished. Objects change meanwhile, so each is held against what it says itself.
func (l *load) keepListing(ctx, until context.Context, client *kubernetes.Client) (int, error) {
	lists := 0
	for until.Err() == nil {
		answer, err := client.List(ctx, l.opts.prefix, kubernetes.ListOptions{})
		if err != nil {
			return lists, fmt.Errorf("list: %w", err)
		}
		if len(answer.Kvs) != l.opts.objects || answer.Count != int64(l.opts.objects) {
			return lists, fmt.Errorf("%d objects and a count of %d, want %d", len(answer.Kvs), answer.Count, l.opts.objects)
		}
		for i, kv := range answer.Kvs {
			if err := l.checkValue(i, kv); err != nil {
				return lists, err
			}
		}
		lists++
	}
	return lists, nil
}

// startWatchers returns once the server has confirmed every watch. The first failure of any of
// them reaches fail.
func (l *load) startWatchers(ctx context.Context, fail context.CancelCauseFunc) ([]*watcher, *sync.WaitGroup, error) {
	var group, confirmed sync.WaitGroup
	watchers := make([]*watcher, l.opts.watchers)
	from := l.start + l.writes.Load() + 1
	for i := range watchers {
		w := &watcher{load: l, client: l.clients[i%len(l.clients)]}
		watchers[i] = w
		confirmed.Add(1)
		group.Go(func() {
			confirm := sync.OnceFunc(confirmed.Done)
			defer confirm()
			if err := w.follow(ctx, from, confirm); err != nil {
				fail(fmt.Errorf("watcher %d: %w", i, err))
			}
		})
	}
	late := time.AfterFunc(l.opts.opTimeout, func() {
		fail(fmt.Errorf("not all watches were confirmed within %v", l.opts.opTimeout))
	})
	defer late.Stop()
	confirmed.Wait()
	return watchers, &group, context.Cause(ctx)
}

// follow receives until ctx ends.
func (w *watcher) follow(ctx context.Context, from int64, confirm func()) error {
	responses := w.client.Watch(
		clientv3.WithRequireLeader(ctx), w.opts.prefix, clientv3.WithPrefix(),
		clientv3.WithRev(from), clientv3.WithPrevKV(), clientv3.WithCreatedNotify(),
	)
	for response := range responses {
		now := time.Now()
		if err := response.Err(); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if response.Created {
			confirm()
		}
		for _, event := range response.Events {
			if err := w.checkEvent(event); err != nil {
				return err
			}
			w.revisions = append(w.revisions, event.Kv.ModRevision)
			w.latencies = append(w.latencies, now.Sub(w.sentAt(event.Kv.Value)))
		}
		w.received.Add(int64(len(response.Events)))
	}
	if ctx.Err() == nil {
		return errors.New("the watch ended by itself")
	}
	return nil
}

// checkEvent fails unless the event is an update of one of the objects, with what it replaced.
func (w *watcher) checkEvent(event *clientv3.Event) error {
	number, found := strings.CutPrefix(string(event.Kv.Key), w.opts.prefix+"pod-")
	i, err := strconv.Atoi(number)
	if !found || err != nil {
		return fmt.Errorf("event on key %q", event.Kv.Key)
	}
	if !event.IsModify() || event.PrevKv == nil {
		return fmt.Errorf("%s at revision %d: not an update with prev_kv: %v", event.Kv.Key, event.Kv.ModRevision, event.Type)
	}
	if event.PrevKv.Version+1 != event.Kv.Version || event.PrevKv.ModRevision >= event.Kv.ModRevision {
		return fmt.Errorf("%s: version %d at revision %d replaced version %d at revision %d", event.Kv.Key,
			event.Kv.Version, event.Kv.ModRevision, event.PrevKv.Version, event.PrevKv.ModRevision)
	}
	return errors.Join(w.checkValue(i, event.Kv), w.checkValue(i, event.PrevKv))
}

// job is an update that is due; the stamp is the time it became due.
type job struct {
	object int
	stamp  time.Time
}

// updateAtRate updates objects in turn, due at fixed times whether or not earlier updates have been
// answered. It returns the acknowledged revisions in order and how the updates fared. Each worker
// has its own objects, so that no two updates of one object are in flight.
func (l *load) updateAtRate(ctx context.Context, fail context.CancelCauseFunc) ([]int64, *measurement, error) {
	total := max(1, int(l.opts.watchTime.Seconds()*float64(l.opts.watchRate)))
	workers := min(l.opts.workers, l.opts.objects)
	revisions := make([]int64, total)
	latencies := make([]time.Duration, total)
	var group sync.WaitGroup
	queues := make([]chan job, workers)
	for number := range queues {
		queues[number] = make(chan job, total/workers+1)
		group.Go(func() {
			w := l.newWorker(number)
			turn := number
			for due := range queues[number] {
				op := func(ctx context.Context, w *worker, i int) error { return l.updateOne(ctx, w, i, due.stamp) }
				if err := l.once(ctx, op, w, due.object); err != nil {
					fail(fmt.Errorf("update of %s: %w", l.key(due.object), err))
					return
				}
				latencies[turn] = time.Since(due.stamp)
				revisions[turn] = l.objects[due.object].revision
				turn += workers
			}
		})
	}
	started := time.Now()
	l.dispatch(ctx, queues, total)
	group.Wait()
	elapsed := time.Since(started)
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	slices.Sort(revisions)
	return revisions, rate(latencies, elapsed), nil
}

// dispatch hands out the updates as they become due. Object i always goes to worker i mod workers.
func (l *load) dispatch(ctx context.Context, queues []chan job, total int) {
	workers := len(queues)
	whole := l.opts.objects / workers * workers
	interval := time.Second / time.Duration(l.opts.watchRate)
	started := time.Now()
	for turn := range total {
		time.Sleep(time.Until(started.Add(time.Duration(turn) * interval)))
		if ctx.Err() != nil {
			break
		}
		queues[turn%workers] <- job{object: turn % whole, stamp: time.Now()}
	}
	for _, queue := range queues {
		close(queue)
	}
}

// drain waits until every watcher has got as many events as there were updates, and a bit longer.
func (l *load) drain(ctx context.Context, watchers []*watcher, total int) error {
	deadline := time.Now().Add(l.opts.drainTime)
	for number, w := range watchers {
		for w.received.Load() < int64(total) {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("watcher %d has %d events of %d after %v", number, w.received.Load(), total, l.opts.drainTime)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	time.Sleep(settleTime)
	return context.Cause(ctx)
}

// difference says where the events of a watcher first depart from the updates.
func difference(got, want []int64) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return fmt.Sprintf("event %d has revision %d, want %d", i, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d events, want %d", len(got), len(want))
}
