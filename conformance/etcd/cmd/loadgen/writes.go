package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3/kubernetes"
)

const staleTries = 10

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
