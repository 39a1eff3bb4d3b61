package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

// mutex: never two inside, and the counter that they keep by reading and writing loses nothing.
func mutex(a *arena) error {
	const name, counter = "mutex", "mutex-counter"
	var inside, added atomic.Int64
	err := a.each(name, func(number int) error {
		lock := concurrency.NewMutex(a.sessions[number], "mutex")
		for !a.over() {
			// The key is the session's: a call made again finds the one it made before.
			a.insist(name, lock.Lock)
			if others := inside.Add(1); others != 1 {
				return fmt.Errorf("%d were inside", others)
			}
			value := readNumber(a, name, number, counter)
			// Made again, it writes the same: the holder is alone.
			a.insist(name, func(ctx context.Context) error {
				done, err := a.clients[number].Txn(ctx).If(lock.IsOwner()).
					Then(clientv3.OpPut(counter, strconv.FormatInt(value+1, 10))).Commit()
				if err == nil && !done.Succeeded {
					return errors.New("not the owner any more")
				}
				return err
			})
			added.Add(1)
			inside.Add(-1)
			a.insist(name, lock.Unlock)
			a.round(name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if found := readNumber(a, name, 0, counter); found != added.Load() {
		return fmt.Errorf("%d were counted, %d added", found, added.Load())
	}
	return nil
}

func readNumber(a *arena, name string, number int, key string) (value int64) {
	a.insist(name, func(ctx context.Context) error {
		found, err := a.clients[number].Get(ctx, key)
		if err != nil || len(found.Kvs) == 0 {
			value = 0
			return err
		}
		value, err = strconv.ParseInt(string(found.Kvs[0].Value), 10, 64)
		return err
	})
	return value
}

// election: never two leaders, and an observer sees only leaders that were elected, in order.
func election(a *arena) error {
	const name = "election"
	var leading atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	observed := make(chan error, 1)
	go func() { observed <- observe(ctx, a) }()
	err := a.each(name, func(number int) error {
		candidate := concurrency.NewElection(a.sessions[number], "election")
		for terms := 0; !a.over(); terms++ {
			value := fmt.Sprintf("%d:%d", number, terms)
			a.insist(name, func(ctx context.Context) error { return candidate.Campaign(ctx, value) })
			if others := leading.Add(1); others != 1 {
				return fmt.Errorf("%d led", others)
			}
			a.insist(name, func(ctx context.Context) error { return candidate.Proclaim(ctx, value+" in office") })
			leading.Add(-1)
			for !a.once(name, func() error { return candidate.Resign(context.Background()) }) {
				// It has forgotten that it leads, and may lead still: only a campaign tells.
				a.insist(name, func(ctx context.Context) error { return candidate.Campaign(ctx, value) })
			}
			a.round(name)
		}
		return nil
	})
	cancel()
	return errors.Join(err, <-observed)
}

func observe(ctx context.Context, a *arena) error {
	watcher := concurrency.NewElection(a.sessions[0], "election")
	var last int64
	for ctx.Err() == nil {
		for seen := range watcher.Observe(ctx) {
			for _, kv := range seen.Kvs {
				if kv.CreateRevision < last {
					return fmt.Errorf("the leader of %d was seen after that of %d", kv.CreateRevision, last)
				}
				last = kv.CreateRevision
			}
		}
		time.Sleep(10 * time.Millisecond) // its channel ends when a call of it fails
	}
	if last == 0 {
		return errors.New("no leader was observed")
	}
	return nil
}

// readersAndWriter: a writer is alone, readers are without writers.
func readersAndWriter(a *arena) error {
	const name = "rwmutex"
	var readers, writers atomic.Int64
	return a.each(name, func(number int) error {
		own := a.newSession(name, number)
		defer func() { a.endSession(name, own) }()
		for turn := number; !a.over(); turn++ {
			lock := recipe.NewRWMutex(own, "rwmutex")
			take, visit := lock.RLock, func() error { return read(&readers, &writers) }
			if turn%3 == 0 {
				take, visit = lock.Lock, func() error { return write(&readers, &writers) }
			}
			taken := a.once(name, take)
			if taken {
				if err := visit(); err != nil {
					return err
				}
			}
			if !taken || !a.once(name, lock.Unlock) {
				// It may have left a key of a name that nobody knows: it goes with the session.
				a.endSession(name, own)
				own = a.newSession(name, number)
				continue
			}
			a.round(name)
		}
		return nil
	})
}

func read(readers, writers *atomic.Int64) error {
	readers.Add(1)
	defer readers.Add(-1)
	time.Sleep(time.Millisecond)
	if others := writers.Load(); others != 0 {
		return fmt.Errorf("a reader was inside with %d writers", others)
	}
	return nil
}

func write(readers, writers *atomic.Int64) error {
	others := writers.Add(1) - 1
	defer writers.Add(-1)
	time.Sleep(time.Millisecond)
	if reading := readers.Load(); others != 0 || reading != 0 {
		return fmt.Errorf("a writer was inside with %d others and %d readers", others, reading)
	}
	return nil
}
