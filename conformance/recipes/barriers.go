package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

// barrier: nobody passes while it is held.
func barrier(a *arena) error {
	const name, key = "barrier", "barrier"
	var held atomic.Int64 // odd while it certainly is
	return a.each(name, func(number int) error {
		gate := recipe.NewBarrier(a.clients[number], key)
		for !a.over() {
			if number == 0 {
				a.insist(name, func(context.Context) error {
					if err := gate.Hold(); !errors.Is(err, recipe.ErrKeyExists) {
						return err
					}
					return nil // of the try before
				})
				held.Add(1)
				time.Sleep(10 * time.Millisecond)
				held.Add(1)
				a.insist(name, func(context.Context) error { return gate.Release() })
				a.round(name)
				continue
			}
			before := held.Load()
			if before%2 == 0 {
				time.Sleep(time.Millisecond)
				continue
			}
			if a.once(name, gate.Wait) && held.Load() == before {
				return errors.New("somebody passed while it was held")
			}
		}
		return nil
	})
}

// meeting is one round at a double barrier.
type meeting struct {
	arrived, entered, left atomic.Int64
	// disturbed once a call failed: its session goes, and with it what the others wait for.
	disturbed atomic.Bool
}

// doubleBarrier: nobody is in before all have come, nobody is out before all want to go.
func doubleBarrier(a *arena) error {
	const name = "double barrier"
	var meetings, decided sync.Map
	return a.each(name, func(number int) error {
		for round := 0; ; round++ {
			// Contender 0 decides for all whether there is another round.
			if number == 0 {
				decided.Store(round, !a.over())
			}
			if !awaited(&decided, round) {
				return nil
			}
			found, _ := meetings.LoadOrStore(round, &meeting{})
			if err := a.meet(name, number, fmt.Sprintf("double/%d", round), found.(*meeting)); err != nil {
				return err
			}
			a.round(name)
		}
	})
}

func awaited(decided *sync.Map, round int) bool {
	for {
		if goes, known := decided.Load(round); known {
			return goes.(bool)
		}
		time.Sleep(time.Millisecond)
	}
}

func (a *arena) meet(name string, number int, key string, now *meeting) error {
	own := a.newSession(name, number)
	defer a.endSession(name, own)
	gate := recipe.NewDoubleBarrier(own, key, contenders)
	now.arrived.Add(1)
	if !a.once(name, gate.Enter) {
		now.disturbed.Store(true)
		now.entered.Add(1)
		a.openFor(name, number, key, now)
		now.left.Add(1)
		return nil
	}
	now.entered.Add(1)
	if came := now.arrived.Load(); came != contenders && !now.disturbed.Load() {
		return fmt.Errorf("somebody was in when %d of %d had come", came, contenders)
	}
	now.left.Add(1)
	if !a.once(name, gate.Leave) {
		now.disturbed.Store(true)
		return nil
	}
	if went := now.left.Load(); went != contenders && !now.disturbed.Load() {
		return fmt.Errorf("somebody was out when %d of %d wanted to go", went, contenders)
	}
	return nil
}

// openFor lets everybody in who comes to a disturbed meeting, where one is missing for ever.
func (a *arena) openFor(name string, number int, key string, now *meeting) {
	for now.entered.Load() < contenders {
		a.insist(name, func(ctx context.Context) error {
			_, err := a.clients[number].Put(ctx, key+"/ready", "")
			return err
		})
		time.Sleep(20 * time.Millisecond)
	}
}
