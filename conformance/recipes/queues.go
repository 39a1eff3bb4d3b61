package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

const (
	accounts     = 5
	accountStart = 100
	stop         = "stop"
	// What may wait in a queue, so that the end does not wait long for the consumers.
	backlogMax = 20
)

// transfers: whatever is moved between accounts by STM, their sum stays.
func transfers(a *arena) error {
	const name = "stm"
	account := func(number int) string { return fmt.Sprintf("account/%d", number) }
	for number := range accounts {
		a.insist(name, func(ctx context.Context) error {
			_, err := a.clients[0].Put(ctx, account(number), strconv.Itoa(accountStart))
			return err
		})
	}
	levels := []concurrency.Isolation{
		concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads,
	}
	err := a.each(name, func(number int) error {
		for turn := 0; !a.over(); turn++ {
			from, to := account(rand.IntN(accounts)), account(rand.IntN(accounts))
			move := func(stm concurrency.STM) error {
				have, err := strconv.Atoi(stm.Get(from))
				if err != nil {
					return err
				}
				stm.Put(from, strconv.Itoa(have-1))
				got, err := strconv.Atoi(stm.Get(to)) // its own write, if they are one account
				stm.Put(to, strconv.Itoa(got+1))
				return err
			}
			a.insist(name, func(ctx context.Context) error {
				_, err := concurrency.NewSTM(a.clients[number], move,
					concurrency.WithIsolation(levels[turn%len(levels)]), concurrency.WithAbortContext(ctx))
				return err
			})
			a.round(name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	sum := 0
	a.insist(name, func(ctx context.Context) error {
		found, err := a.clients[0].Get(ctx, "account/", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		sum = 0
		for _, kv := range found.Kvs {
			have, _ := strconv.Atoi(string(kv.Value))
			sum += have
		}
		return nil
	})
	if sum != accounts*accountStart {
		return fmt.Errorf("the accounts hold %d, not %d", sum, accounts*accountStart)
	}
	return nil
}

// line is either kind of queue.
type line interface {
	enqueue(value string) error
	Dequeue() (string, error)
}

type plain struct{ *recipe.Queue }

func (q plain) enqueue(value string) error { return q.Enqueue(value) }

type ranked struct{ *recipe.PriorityQueue }

func (q ranked) enqueue(value string) error {
	if value == stop {
		return q.Enqueue(value, 99)
	}
	return q.Enqueue(value, uint16(rand.IntN(5)))
}

func queue(a *arena) error {
	return deliver(a, "queue", "items", func(client *clientv3.Client) line {
		return plain{recipe.NewQueue(client, "items")}
	})
}

func priorityQueue(a *arena) error {
	return deliver(a, "priority queue", "ranked/", func(client *clientv3.Client) line {
		return ranked{recipe.NewPriorityQueue(client, "ranked")}
	})
}

// book is what producers and consumers saw of one queue.
type book struct {
	sync.Mutex
	put, taken map[string]bool
	failed     int
	twice      []string
}

func (b *book) took(value string) {
	b.Lock()
	defer b.Unlock()
	if b.taken[value] {
		b.twice = append(b.twice, value)
	}
	b.taken[value] = true
}

func (b *book) waiting() int {
	b.Lock()
	defer b.Unlock()
	return len(b.put) - len(b.taken)
}

// deliver: nothing is taken twice, and nothing is lost but what a failed call may have taken.
func deliver(a *arena, name, prefix string, open func(*clientv3.Client) line) error {
	seen := &book{put: map[string]bool{}, taken: map[string]bool{}}
	var producing, consuming sync.WaitGroup
	producing.Add(contenders / 2)
	consuming.Add(contenders - contenders/2)
	go stopAll(a, name, open(a.clients[0]), &producing, &consuming)
	err := a.each(name, func(number int) error {
		if number%2 == 0 {
			defer producing.Done()
			produce(a, name, number, open(a.clients[number]), seen)
			return nil
		}
		defer consuming.Done()
		consume(a, name, open(a.clients[number]), seen)
		return nil
	})
	if err != nil {
		return err
	}
	left := map[string]bool{}
	a.insist(name, func(ctx context.Context) error {
		found, err := a.clients[0].Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for _, kv := range found.Kvs {
			left[string(kv.Value)] = true
		}
		return nil
	})
	return seen.judge(left)
}

func produce(a *arena, name string, number int, to line, seen *book) {
	for item := 0; !a.over(); item++ {
		for seen.waiting() > backlogMax && !a.over() {
			time.Sleep(time.Millisecond)
		}
		value := fmt.Sprintf("%d:%d", number, item) // never used again, since a failed call may work
		if a.once(name, func() error { return to.enqueue(value) }) {
			seen.Lock()
			seen.put[value] = true
			seen.Unlock()
			a.round(name)
		}
	}
}

func consume(a *arena, name string, from line, seen *book) {
	for {
		var value string
		taken := a.once(name, func() (err error) {
			value, err = from.Dequeue()
			return err
		})
		switch {
		case !taken:
			seen.Lock()
			seen.failed++
			seen.Unlock()
		case value == stop:
			return
		default:
			seen.took(value)
		}
	}
}

// stopAll ends the consumers once nothing more is produced; a failed call may have taken a stop.
func stopAll(a *arena, name string, to line, producing, consuming *sync.WaitGroup) {
	producing.Wait()
	ended := make(chan struct{})
	go func() {
		consuming.Wait()
		close(ended)
	}()
	for {
		a.once(name, func() error { return to.enqueue(stop) })
		select {
		case <-ended:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (b *book) judge(left map[string]bool) error {
	if len(b.twice) > 0 {
		return fmt.Errorf("taken twice: %v", b.twice)
	}
	lost := 0
	for value := range b.put {
		if !b.taken[value] && !left[value] {
			lost++
		}
		if b.taken[value] && left[value] {
			return fmt.Errorf("%s was taken and is still there", value)
		}
	}
	if lost > b.failed {
		return fmt.Errorf("%d items are lost, and only %d calls failed that may have taken them", lost, b.failed)
	}
	return nil
}
