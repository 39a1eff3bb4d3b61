// Command recipes runs etcd's own recipes with many contenders, each with a connection and a session
// of its own, and checks what each recipe promises while members of the cluster come and go.
//
// Usage: recipes SECONDS ENDPOINT[,ENDPOINT...]. It prints a line for each recipe, and exits with 1
// if a promise was broken. A call that failed is made again; what it may have done is allowed for.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
)

const (
	contenders = 6
	// Longer than any outage that the test makes: a session that expires voids every promise.
	sessionSeconds = 60
	// How long after the end a recipe may take to let everybody go.
	finishSeconds = 60
)

// story is one recipe under contention.
type story struct {
	name string
	tell func(*arena) error
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "recipes:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: recipes SECONDS ENDPOINT[,ENDPOINT...]")
	}
	seconds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	made, err := newArena(strings.Split(args[1], ","), time.Duration(seconds)*time.Second)
	if err != nil {
		return err
	}
	defer made.close()
	stories := []story{
		{"mutex", mutex}, {"election", election}, {"stm", transfers}, {"rwmutex", readersAndWriter},
		{"queue", queue}, {"priority queue", priorityQueue}, {"barrier", barrier},
		{"double barrier", doubleBarrier},
	}
	var all sync.WaitGroup
	broken := make([]error, len(stories))
	for i, each := range stories {
		all.Add(1)
		go func() {
			defer all.Done()
			broken[i] = each.tell(made)
		}()
	}
	finished := make(chan struct{})
	go func() {
		all.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(time.Until(made.end) + finishSeconds*time.Second):
		return fmt.Errorf("somebody still waits %d s after the end: %s", finishSeconds, made.unfinished())
	}
	bad := 0
	for i, each := range stories {
		verdict := "kept"
		if broken[i] != nil {
			verdict, bad = "BROKEN: "+broken[i].Error(), bad+1
		}
		fmt.Printf("%s: %d rounds, %d calls failed, %s\n", each.name, made.rounds(each.name), made.failures(each.name), verdict)
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d recipes did not keep their promise", bad, len(stories))
	}
	return nil
}

// arena holds the contenders and counts what they do.
type arena struct {
	clients  []*clientv3.Client
	sessions []*concurrency.Session
	end      time.Time

	mutex sync.Mutex
	done  map[string]int
	bad   map[string]int
	busy  map[string]int
}

func newArena(endpoints []string, duration time.Duration) (*arena, error) {
	made := &arena{done: map[string]int{}, bad: map[string]int{}, busy: map[string]int{}}
	for i := range contenders {
		// Everybody begins at another member.
		first := i % len(endpoints)
		client, err := clientv3.New(clientv3.Config{
			Endpoints:   append(append([]string{}, endpoints[first:]...), endpoints[:first]...),
			DialTimeout: 10 * time.Second,
			Logger:      zap.NewNop(),
		})
		if err != nil {
			return nil, err
		}
		session, err := concurrency.NewSession(client, concurrency.WithTTL(sessionSeconds))
		if err != nil {
			return nil, err
		}
		made.clients = append(made.clients, client)
		made.sessions = append(made.sessions, session)
	}
	made.end = time.Now().Add(duration)
	return made, nil
}

func (a *arena) close() {
	for i, session := range a.sessions {
		session.Orphan()
		_ = a.clients[i].Close()
	}
}

func (a *arena) over() bool { return time.Now().After(a.end) }

// lost says whether a session expired, which no outage of the test may bring about.
func (a *arena) lost() error {
	for i, session := range a.sessions {
		select {
		case <-session.Done():
			return fmt.Errorf("the session of contender %d expired", i)
		default:
		}
	}
	return nil
}

// each runs a contender's work at once for all, and returns the first broken promise.
func (a *arena) each(name string, work func(number int) error) error {
	problems := make(chan error, contenders)
	for number := range contenders {
		a.count(a.busy, name, 1)
		go func() {
			problems <- work(number)
			a.count(a.busy, name, -1)
		}()
	}
	var first error
	for range contenders {
		if problem := <-problems; problem != nil && first == nil {
			first = problem
		}
	}
	if lost := a.lost(); first == nil {
		first = lost
	}
	return first
}

// insist makes a call again until it succeeds, and counts its failures.
func (a *arena) insist(name string, call func(context.Context) error) {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := call(ctx)
		cancel()
		if err == nil {
			return
		}
		a.count(a.bad, name, 1)
		time.Sleep(50 * time.Millisecond)
	}
}

// once makes a call that cannot be made again just so.
func (a *arena) once(name string, call func() error) bool {
	err := call()
	if err != nil {
		a.count(a.bad, name, 1)
		time.Sleep(50 * time.Millisecond)
	}
	return err == nil
}

// newSession is one of the contender's own for one recipe, so that ending it takes nothing else.
func (a *arena) newSession(name string, number int) (made *concurrency.Session) {
	a.insist(name, func(context.Context) (err error) {
		made, err = concurrency.NewSession(a.clients[number], concurrency.WithTTL(sessionSeconds))
		return err
	})
	return made
}

// endSession takes all its keys away; what of it is still on its way is refused when it arrives.
func (a *arena) endSession(name string, session *concurrency.Session) {
	session.Orphan()
	a.insist(name, func(ctx context.Context) error {
		_, err := session.Client().Revoke(ctx, session.Lease())
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil // it was the try before
		}
		return err
	})
}

func (a *arena) round(name string) { a.count(a.done, name, 1) }

func (a *arena) count(where map[string]int, name string, by int) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	where[name] += by
}

func (a *arena) rounds(name string) int {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.done[name]
}

func (a *arena) failures(name string) int {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.bad[name]
}

func (a *arena) unfinished() string {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	var names []string
	for name, busy := range a.busy {
		if busy > 0 {
			names = append(names, fmt.Sprintf("%s (%d)", name, busy))
		}
	}
	return strings.Join(names, ", ")
}
