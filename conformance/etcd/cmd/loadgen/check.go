package main

// What every answer is held against. Values carry who they are, so that a value that belongs to
// another key, another version or nobody at all is noticed wherever it turns up.

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	stampBytes   = 24 // time sent, object and version, 8 bytes each
	fillerShifts = 4096
)

// value makes the value of a version of object i, stamped with the time it is sent.
func (l *load) value(i int, version int64, sent time.Time) []byte {
	value := make([]byte, stampBytes, l.opts.valueBytes)
	binary.BigEndian.PutUint64(value, uint64(sent.Sub(l.epoch)))
	binary.BigEndian.PutUint64(value[8:], uint64(i))
	binary.BigEndian.PutUint64(value[16:], uint64(version))
	return append(value, l.fillerOf(i, version)...)
}

// sentAt is the time in a value of this process.
func (l *load) sentAt(value []byte) time.Time {
	return l.epoch.Add(time.Duration(binary.BigEndian.Uint64(value)))
}

func (l *load) fillerOf(i int, version int64) []byte {
	shift := (i*7 + int(version)*13) % fillerShifts
	return l.filler[shift : shift+l.opts.valueBytes-stampBytes]
}

// checkValue fails unless kv holds what was written as object i at the version kv claims.
func (l *load) checkValue(i int, kv *mvccpb.KeyValue) error {
	if string(kv.Key) != l.key(i) {
		return fmt.Errorf("key %q where %q belongs", kv.Key, l.key(i))
	}
	if len(kv.Value) != l.opts.valueBytes {
		return fmt.Errorf("%s: value of %d bytes, want %d", kv.Key, len(kv.Value), l.opts.valueBytes)
	}
	index := binary.BigEndian.Uint64(kv.Value[8:])
	version := binary.BigEndian.Uint64(kv.Value[16:])
	if index != uint64(i) || version != uint64(kv.Version) {
		return fmt.Errorf("%s at version %d holds the value of object %d, version %d", kv.Key, kv.Version, index, version)
	}
	if !bytes.Equal(kv.Value[stampBytes:], l.fillerOf(i, kv.Version)) {
		return fmt.Errorf("%s: value damaged", kv.Key)
	}
	return nil
}

// checkCurrent fails unless kv is object i as the last write left it.
func (l *load) checkCurrent(i int, kv *mvccpb.KeyValue) error {
	if kv == nil {
		return fmt.Errorf("%s is missing", l.key(i))
	}
	if err := l.checkValue(i, kv); err != nil {
		return err
	}
	got := object{created: kv.CreateRevision, revision: kv.ModRevision, version: kv.Version}
	if got != l.objects[i] {
		return fmt.Errorf("%s is at %+v, want %+v", kv.Key, got, l.objects[i])
	}
	return nil
}

// checkList fails unless kvs are all objects, in key order, as the last writes left them.
func (l *load) checkList(kvs []*mvccpb.KeyValue, count, revision int64) error {
	if len(kvs) != l.opts.objects || count != int64(l.opts.objects) {
		return fmt.Errorf("%d objects and a count of %d, want %d", len(kvs), count, l.opts.objects)
	}
	if want := l.start + l.writes.Load(); revision != want {
		return fmt.Errorf("listed at revision %d, want %d", revision, want)
	}
	for i, kv := range kvs {
		if err := l.checkCurrent(i, kv); err != nil {
			return err
		}
	}
	return nil
}

// wrote takes note of an acknowledged write, whose revision must be above all seen before.
func (w *worker) wrote(revision int64) error {
	if revision <= w.seen {
		return fmt.Errorf("written at revision %d, after %d was answered", revision, w.seen)
	}
	w.seen = revision
	w.writes.Add(1)
	return nil
}

// read takes note of the revision of a linearizable read.
func (w *worker) read(revision int64) error {
	if revision < w.seen {
		return fmt.Errorf("read at revision %d, after %d was answered", revision, w.seen)
	}
	w.seen = revision
	return nil
}

// checkDense fails unless the store has moved by one revision for each write.
func (l *load) checkDense(ctx context.Context) error {
	answer, err := l.clients[0].KV.Get(ctx, l.opts.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if want := l.start + l.writes.Load(); answer.Header.Revision != want {
		return fmt.Errorf("store at revision %d, want %d", answer.Header.Revision, want)
	}
	return nil
}
