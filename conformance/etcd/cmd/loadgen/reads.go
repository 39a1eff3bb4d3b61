package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
)

// get reads each object, as often as asked for.
func (l *load) get(ctx context.Context) (*measurement, error) {
	return l.repeatedly(ctx, l.opts.getPasses*len(l.order), func(ctx context.Context, w *worker, i int) error {
		answer, err := w.client.Get(ctx, l.key(i), kubernetes.GetOptions{})
		if err != nil {
			return err
		}
		return errors.Join(l.checkCurrent(i, answer.KV), w.read(answer.Revision))
	})
}

// listing is all objects as one list has shown them.
type listing struct {
	kvs      []*mvccpb.KeyValue
	count    int64
	revision int64
}

// lister reads all objects; the duration is that of its requests alone.
type lister func(ctx context.Context) (listing, time.Duration, error)

// listAll reads everything in one Range.
func (l *load) listAll(ctx context.Context) (*measurement, error) {
	return l.repeat(ctx, l.opts.listRepeats, func(ctx context.Context) (listing, time.Duration, error) {
		sent := time.Now()
		answer, err := l.clients[0].List(ctx, l.opts.prefix, kubernetes.ListOptions{})
		took := time.Since(sent)
		return listing{answer.Kvs, answer.Count, answer.Revision}, took, err
	})
}

// listStream reads everything by RangeStream, as kube-apiserver 1.37 does where it may: it takes the
// objects of each chunk as they are. (clientv3.GetStreamToGetResponse copies every one of them.)
func (l *load) listStream(ctx context.Context) (*measurement, error) {
	return l.repeat(ctx, l.opts.listRepeats, func(ctx context.Context) (listing, time.Duration, error) {
		sent := time.Now()
		stream, err := l.clients[0].GetStream(ctx, l.opts.prefix, clientv3.WithPrefix())
		if err != nil {
			return listing{}, 0, err
		}
		all, err := gather(stream)
		return all, time.Since(sent), err
	})
}

// gather reads a stream to its end; only its last chunk has a header and the count.
func gather(stream clientv3.GetStreamChan) (listing, error) {
	var all listing
	for chunk := range stream {
		if err := chunk.Err(); err != nil {
			return all, err
		}
		all.kvs = append(all.kvs, chunk.Kvs...)
		all.count, all.revision = chunk.Count, chunk.GetHeader().GetRevision()
	}
	return all, nil
}

// listPaged reads everything in pages at the revision of the first.
func (l *load) listPaged(ctx context.Context) (*measurement, error) {
	return l.repeat(ctx, l.opts.pageRepeats, l.pages)
}

// pages follows a list from page to page. Each page counts itself and all that is left, which is
// what kube-apiserver takes for "there is more".
func (l *load) pages(ctx context.Context) (listing, time.Duration, error) {
	var all listing
	var took time.Duration
	options := kubernetes.ListOptions{Limit: int64(l.opts.pageLimit)}
	for {
		sent := time.Now()
		page, err := l.clients[0].List(ctx, l.opts.prefix, options)
		if err != nil {
			return all, took, err
		}
		took += time.Since(sent)
		if len(page.Kvs) == 0 {
			return all, took, fmt.Errorf("an empty page after %d objects", len(all.kvs))
		}
		if options.Revision == 0 {
			options.Revision, all.revision, all.count = page.Revision, page.Revision, page.Count
		}
		if left := all.count - int64(len(all.kvs)); page.Count != left {
			return all, took, fmt.Errorf("a page counts %d objects, want %d", page.Count, left)
		}
		all.kvs = append(all.kvs, page.Kvs...)
		if int64(len(page.Kvs)) == page.Count {
			return all, took, nil
		}
		options.Continue = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// repeat lists some times and takes the median; every list is checked.
func (l *load) repeat(ctx context.Context, repeats int, list lister) (*measurement, error) {
	var times []time.Duration
	for range repeats {
		all, took, err := list(ctx)
		if err != nil {
			return nil, err
		}
		if err := l.checkList(all.kvs, all.count, all.revision); err != nil {
			return nil, err
		}
		times = append(times, took)
	}
	slices.Sort(times)
	return &measurement{
		Operations: len(times),
		P50:        milliseconds(quantile(times, 0.5)),
		Max:        milliseconds(times[len(times)-1]),
	}, nil
}
