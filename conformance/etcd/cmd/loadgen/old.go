package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const ageRepeats = 101

// ages are the medians of the same reads now and at a revision far back.
type ages struct {
	HeadPage float64 `json:"head_page_ms"`
	OldPage  float64 `json:"old_page_ms"`
	HeadGet  float64 `json:"head_get_ms"`
	OldGet   float64 `json:"old_get_ms"`
}

// old remembers the revision, changes objects so many times, and then reads pages and single keys
// at head and at that revision in turns. Old values must be those of that revision.
func (l *load) old(ctx context.Context) (*measurement, error) {
	then := slices.Clone(l.objects)
	revision := l.start + l.writes.Load()
	for left := l.opts.changes; left > 0; left -= len(l.order) {
		op := func(ctx context.Context, w *worker, i int) error { return l.updateOne(ctx, w, i, time.Now()) }
		if _, err := l.repeatedly(ctx, min(left, len(l.order)), op); err != nil {
			return nil, err
		}
	}
	now := l.objects
	limit := min(l.opts.pageLimit, l.opts.objects)
	page := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(l.opts.prefix)), clientv3.WithLimit(int64(limit))}
	back := clientv3.WithRev(revision)
	var headPage, oldPage, headGet, oldGet []time.Duration
	for turn := range ageRepeats {
		first := l.order[turn%len(l.order)] % (l.opts.objects - limit + 1)
		for _, read := range []struct {
			into    *[]time.Duration
			objects []object
			count   int
			options []clientv3.OpOption
		}{
			{&headPage, now, limit, page},
			{&oldPage, then, limit, append(slices.Clone(page), back)},
			{&headGet, now, 1, nil},
			{&oldGet, then, 1, []clientv3.OpOption{back}},
		} {
			took, err := l.readAs(ctx, first, read.count, read.objects, read.options)
			if err != nil {
				return nil, err
			}
			*read.into = append(*read.into, took)
		}
	}
	measured := rate(slices.Clone(oldPage), 0)
	measured.PerSecond = 0
	measured.ages = &ages{median(headPage), median(oldPage), median(headGet), median(oldGet)}
	return measured, nil
}

// readAs reads so many objects from the first on and holds them against what they should be.
func (l *load) readAs(ctx context.Context, first, count int, want []object, options []clientv3.OpOption) (time.Duration, error) {
	sent := time.Now()
	answer, err := l.clients[0].KV.Get(ctx, l.key(first), options...)
	took := time.Since(sent)
	if err != nil {
		return took, err
	}
	if len(answer.Kvs) != count {
		return took, fmt.Errorf("%d objects in a read of %d", len(answer.Kvs), count)
	}
	for n, kv := range answer.Kvs {
		i := first + n
		if err := l.checkValue(i, kv); err != nil {
			return took, err
		}
		got := object{created: kv.CreateRevision, revision: kv.ModRevision, version: kv.Version}
		if got != want[i] {
			return took, fmt.Errorf("%s was at %+v, want %+v", kv.Key, got, want[i])
		}
	}
	return took, nil
}

func median(times []time.Duration) float64 {
	slices.Sort(times)
	return milliseconds(quantile(times, 0.5))
}
