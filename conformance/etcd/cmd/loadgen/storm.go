package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3/kubernetes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	stormLists   = 4
	loginsAtOnce = 8
	root         = "root"
)

// weather is what a storm consisted of.
type weather struct {
	Lists    int    `json:"storm_lists"`
	Copies   int    `json:"storm_copies"`
	CopiedBy string `json:"storm_copied_by"`
	Logins   int    `json:"storm_logins"`
	LoggedIn string `json:"storm_logged_in_by"`
}

// storm does at once what could hold up a server's event loop: four clients list everything, one
// copies the whole store, others log in. A server without Snapshot hashes the whole store instead,
// one without accounts only shakes hands.
func (l *load) storm(ctx context.Context) (*measurement, error) {
	if err := l.enableAccounts(ctx); err != nil {
		return nil, err
	}
	var listers []*kubernetes.Client
	for number := range stormLists {
		client, err := l.dial(l.opts.endpoints[number%len(l.opts.endpoints)])
		if err != nil {
			return nil, err
		}
		defer client.Close()
		listers = append(listers, client)
	}
	listing, stop := context.WithTimeout(ctx, l.opts.stormTime)
	defer stop()
	seen := &weather{}
	var group sync.WaitGroup
	var locked sync.Mutex
	var failures []error
	started := time.Now()
	run := func(part func() error) {
		group.Go(func() {
			if err := part(); err != nil {
				locked.Lock()
				failures = append(failures, err)
				locked.Unlock()
				stop()
			}
		})
	}
	for _, client := range listers {
		run(func() error {
			lists, err := l.keepListing(ctx, listing, client)
			locked.Lock()
			seen.Lists += lists
			locked.Unlock()
			return err
		})
	}
	run(func() error {
		for listing.Err() == nil {
			by, err := l.copyStore(ctx)
			if err != nil {
				return err
			}
			seen.Copies, seen.CopiedBy = seen.Copies+1, by
		}
		return nil
	})
	run(func() (err error) {
		seen.LoggedIn, err = l.logIn(ctx)
		seen.Logins = l.opts.logins
		return err
	})
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return nil, err
	}
	return &measurement{Operations: seen.Lists, Seconds: time.Since(started).Seconds(), weather: seen}, nil
}

// enableAccounts makes passwords necessary and logs all clients in; without an effect where there
// are no accounts.
func (l *load) enableAccounts(ctx context.Context) error {
	client, password := l.clients[0].Client, rand.Text()
	_, err := client.UserAdd(ctx, root, password)
	if status.Code(err) == codes.Unimplemented {
		return nil
	}
	if err == nil {
		_, err = client.RoleAdd(ctx, root)
	}
	if err == nil {
		_, err = client.UserGrantRole(ctx, root, root)
	}
	if err == nil {
		_, err = client.AuthEnable(ctx)
	}
	if err != nil {
		return fmt.Errorf("accounts: %w", err)
	}
	l.user, l.password = root, password
	return l.connect()
}

// copyStore reads a whole snapshot and throws it away; the word says how the store was read.
func (l *load) copyStore(ctx context.Context) (string, error) {
	client := l.clients[0].Client
	snapshot, err := client.Snapshot(ctx)
	if err == nil {
		_, err = io.Copy(io.Discard, snapshot)
		snapshot.Close()
	}
	if status.Code(err) != codes.Unimplemented {
		return "snapshot", err
	}
	_, err = client.HashKV(ctx, l.opts.endpoints[0], 0)
	return "hash", err
}

// logIn makes so many new clients, some at once, each with a connection of its own that asks for one
// key; where there are accounts each logs in with a password. The word says what a login was.
func (l *load) logIn(ctx context.Context) (string, error) {
	turns := make(chan struct{}, l.opts.logins)
	for range l.opts.logins {
		turns <- struct{}{}
	}
	close(turns)
	var group sync.WaitGroup
	failed := make(chan error, loginsAtOnce)
	for range loginsAtOnce {
		group.Go(func() {
			for range turns {
				client, err := l.dial(l.opts.endpoints[0])
				if err == nil {
					_, err = client.KV.Get(ctx, l.key(0))
					err = errors.Join(err, client.Close())
				}
				if err != nil {
					failed <- fmt.Errorf("login: %w", err)
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	switch {
	case l.user != "":
		return "password", <-failed
	case l.secure():
		return "handshake", <-failed
	default:
		return "connection", <-failed
	}
}
