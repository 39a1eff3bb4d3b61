package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

const (
	staleTries = 10
	fillBatch  = 100 // of the 128 operations that etcd allows in a transaction
)

// create makes each object: If mod=0 Then Put.
func (l *load) create(ctx context.Context) (*measurement, error) {
	return l.forEach(ctx, func(ctx context.Context, w *worker, i int) error {
		value := l.value(i, 1, time.Now())
		answer, err := w.client.OptimisticPut(ctx, l.key(i), value, 0, kubernetes.PutOptions{})
		if err != nil {
			return err
		}
		if !answer.Succeeded {
			return errors.New("exists already")
		}
		l.objects[i] = object{created: answer.Revision, revision: answer.Revision, version: 1}
		return w.wrote(answer.Revision)
	})
}

// fill makes the objects in key order, a hundred to a transaction, for phases that need many.
func (l *load) fill(ctx context.Context) (*measurement, error) {
	var latencies []time.Duration
	w := l.newWorker(0)
	started := time.Now()
	for first := 0; first < l.opts.objects; first += fillBatch {
		next := min(first+fillBatch, l.opts.objects)
		sent := time.Now()
		op := func(ctx context.Context, w *worker, _ int) error { return l.fillSome(ctx, w, first, next) }
		if err := l.once(ctx, op, w, first); err != nil {
			return nil, fmt.Errorf("objects %d to %d: %w", first, next-1, err)
		}
		latencies = append(latencies, time.Since(sent))
	}
	return rate(latencies, time.Since(started)), nil
}

func (l *load) fillSome(ctx context.Context, w *worker, first, next int) error {
	var puts []clientv3.Op
	for i := first; i < next; i++ {
		puts = append(puts, clientv3.OpPut(l.key(i), string(l.value(i, 1, time.Now()))))
	}
	answer, err := w.client.KV.Txn(ctx).Then(puts...).Commit()
	if err != nil {
		return err
	}
	revision := answer.Header.Revision
	for i := first; i < next; i++ {
		l.objects[i] = object{created: revision, revision: revision, version: 1}
	}
	return w.wrote(revision)
}

// update writes each object once: If mod=r Then Put Else Get. Before it, guards are tried.
func (l *load) update(ctx context.Context) (*measurement, error) {
	if err := l.tryStale(ctx); err != nil {
		return nil, err
	}
	return l.forEach(ctx, func(ctx context.Context, w *worker, i int) error {
		return l.updateOne(ctx, w, i, time.Now())
	})
}

func (l *load) updateOne(ctx context.Context, w *worker, i int, stamp time.Time) error {
	current := &l.objects[i]
	value := l.value(i, current.version+1, stamp)
	options := kubernetes.PutOptions{GetOnFailure: true}
	answer, err := w.client.OptimisticPut(ctx, l.key(i), value, current.revision, options)
	if err != nil {
		return err
	}
	if !answer.Succeeded {
		return fmt.Errorf("guard on revision %d failed, current is %v", current.revision, answer.KV.GetModRevision())
	}
	current.revision = answer.Revision
	current.version++
	return w.wrote(answer.Revision)
}

// delete removes each object: If mod=r Then DeleteRange Else Get. Afterwards none is left.
func (l *load) delete(ctx context.Context) (*measurement, error) {
	measured, err := l.forEach(ctx, func(ctx context.Context, w *worker, i int) error {
		options := kubernetes.DeleteOptions{GetOnFailure: true}
		revision := l.objects[i].revision
		answer, err := w.client.OptimisticDelete(ctx, l.key(i), revision, options)
		if err != nil {
			return err
		}
		if !answer.Succeeded {
			return fmt.Errorf("guard on revision %d failed, current is %v", revision, answer.KV.GetModRevision())
		}
		return w.wrote(answer.Revision)
	})
	if err != nil {
		return nil, err
	}
	left, err := l.clients[0].Count(ctx, l.opts.prefix, kubernetes.CountOptions{})
	if err != nil {
		return nil, err
	}
	if left != 0 {
		return nil, fmt.Errorf("%d objects left", left)
	}
	return measured, nil
}

// tryStale sends writes whose guard must fail: they change nothing and answer with what is there.
func (l *load) tryStale(ctx context.Context) error {
	client := l.clients[0]
	for i := range min(staleTries, l.opts.objects) {
		stale := l.objects[i].revision - 1
		created, err := client.OptimisticPut(ctx, l.key(i), nil, 0, kubernetes.PutOptions{})
		if err != nil {
			return err
		}
		put, err := client.OptimisticPut(ctx, l.key(i), nil, stale, kubernetes.PutOptions{GetOnFailure: true})
		if err != nil {
			return err
		}
		deleted, err := client.OptimisticDelete(ctx, l.key(i), stale, kubernetes.DeleteOptions{GetOnFailure: true})
		if err != nil {
			return err
		}
		if created.Succeeded || put.Succeeded || deleted.Succeeded {
			return fmt.Errorf("%s: a write with a stale guard succeeded", l.key(i))
		}
		if err := errors.Join(l.checkCurrent(i, put.KV), l.checkCurrent(i, deleted.KV)); err != nil {
			return err
		}
	}
	return nil
}
