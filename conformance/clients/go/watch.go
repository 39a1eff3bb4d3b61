package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func watch(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := client.Watch(ctx, "watched", clientv3.WithPrevKV(), clientv3.WithRev(6))
	for _, value := range []string{"1", "2"} {
		if _, err := client.Put(ctx, "watched", value); err != nil {
			return err
		}
	}
	if _, err := client.Delete(ctx, "watched"); err != nil {
		return err
	}
	for seen := 0; seen < 3; {
		answer, ok := <-events
		if !ok || answer.Err() != nil {
			return fmt.Errorf("the watch ended: %w", answer.Err())
		}
		for _, event := range answer.Events {
			fmt.Println("watch:", describe(event))
			seen++
		}
	}
	return nil
}

func describe(event *clientv3.Event) string {
	before := "none"
	if event.PrevKv != nil {
		before = string(event.PrevKv.Value)
	}
	what := event.Type.String()
	if event.Type == clientv3.EventTypePut {
		what += " " + string(event.Kv.Value)
	}
	return fmt.Sprintf("%s at %d, before %s", what, event.Kv.ModRevision, before)
}

func lease(ctx context.Context, client *clientv3.Client) error {
	granted, err := client.Grant(ctx, 60)
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, "leased", "x", clientv3.WithLease(granted.ID)); err != nil {
		return err
	}
	alive, stop := context.WithCancel(ctx)
	defer stop()
	beats, err := client.KeepAlive(alive, granted.ID)
	if err != nil {
		return err
	}
	kept, ok := <-beats
	if !ok {
		return errors.New("the lease is not kept alive")
	}
	left, err := client.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	fmt.Printf("lease: granted %d, kept alive %d, holds %s\n", left.GrantedTTL, kept.TTL, left.Keys[0])
	stop()
	events := client.Watch(ctx, "leased", clientv3.WithPrevKV(), clientv3.WithRev(10))
	if _, err := client.Revoke(ctx, granted.ID); err != nil {
		return err
	}
	answer := <-events
	if answer.Err() != nil {
		return answer.Err()
	}
	fmt.Println("lease: revoked,", describe(answer.Events[0]))
	return nil
}

func compaction(ctx context.Context, client *clientv3.Client) error {
	if _, err := client.Compact(ctx, 8); err != nil {
		return err
	}
	_, err := client.Get(ctx, "greeting", clientv3.WithRev(3))
	if err == nil {
		return errors.New("a read at a compacted revision is answered")
	}
	fmt.Println("compacted:", err)
	answer := <-client.Watch(ctx, "greeting", clientv3.WithRev(3))
	if !answer.Canceled {
		return errors.New("a watch from a compacted revision goes on")
	}
	fmt.Printf("compacted: watch cancelled, compacted at %d\n", answer.CompactRevision)
	return nil
}

// deadline and cancelled look at the stream itself, which etcd's client hides.
func deadline(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	stream, err := created(ctx, client)
	if err != nil {
		return err
	}
	_, err = stream.Recv()
	if status.Code(err) != codes.DeadlineExceeded {
		return fmt.Errorf("not the deadline: %w", err)
	}
	fmt.Println("deadline: DEADLINE_EXCEEDED")
	return nil
}

func cancelled(ctx context.Context, client *clientv3.Client) error {
	streaming, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := created(streaming, client)
	if err != nil {
		return err
	}
	cancel()
	_, err = stream.Recv()
	if status.Code(err) != codes.Canceled {
		return fmt.Errorf("not cancelled: %w", err)
	}
	got, err := client.Get(ctx, "greeting")
	if err != nil {
		return err
	}
	fmt.Printf("cancel: CANCELLED, then count %d\n", got.Count)
	return nil
}

// created opens a watch and waits for the server's word that it stands.
func created(ctx context.Context, client *clientv3.Client) (pb.Watch_WatchClient, error) {
	stream, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
	if err != nil {
		return nil, err
	}
	create := &pb.WatchCreateRequest{Key: []byte("silent")}
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
	if err := stream.Send(request); err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err == nil && !answer.Created {
		err = errors.New("the watch is not created")
	}
	return stream, err
}
