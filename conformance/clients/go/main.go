// Command story tells ../story.txt with grpc-go, through etcd's own client where it reaches.
//
// Usage: story ENDPOINT [CA CERTIFICATE KEY], on an empty store.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const timeout = 60 * time.Second

func main() {
	if err := tell(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "story:", err)
		os.Exit(1)
	}
}

func tell(args []string) error {
	client, err := connect(args)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for _, chapter := range []func(context.Context, *clientv3.Client) error{
		keys, pages, watch, lease, compaction, large, leader, deadline, cancelled,
	} {
		if err := chapter(ctx, client); err != nil {
			return err
		}
	}
	return nil
}

func keys(ctx context.Context, client *clientv3.Client) error {
	put, err := client.Put(ctx, "greeting", "hello")
	if err != nil {
		return err
	}
	fmt.Printf("put: revision %d\n", put.Header.Revision)
	got, err := client.Get(ctx, "greeting")
	if err != nil {
		return err
	}
	kv := got.Kvs[0]
	fmt.Printf("get: %s=%s created %d modified %d version %d, count %d, more %t\n",
		kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, got.Count, got.More)
	guarded := func() (*clientv3.TxnResponse, error) {
		return client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision("greeting"), "=", put.Header.Revision)).
			Then(clientv3.OpPut("greeting", "hello again")).
			Else(clientv3.OpGet("greeting")).
			Commit()
	}
	first, err := guarded()
	if err != nil {
		return err
	}
	again, err := guarded()
	if err != nil {
		return err
	}
	found := again.Responses[0].GetResponseRange().Kvs[0]
	fmt.Printf("guarded: first %t at revision %d, again %t, found %s modified %d\n",
		first.Succeeded, first.Header.Revision, again.Succeeded, found.Value, found.ModRevision)
	return nil
}

func pages(ctx context.Context, client *clientv3.Client) error {
	for half := range 2 {
		var puts []clientv3.Op
		for i := range 125 {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("page/%03d", 125*half+i), "x"))
		}
		if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
			return err
		}
	}
	var revision int64
	for start, more := "page/", true; more; {
		page, err := client.Get(ctx, start, clientv3.WithRange("page0"),
			clientv3.WithLimit(100), clientv3.WithRev(revision))
		if err != nil {
			return err
		}
		fmt.Printf("page: %d keys from %s, count %d, more %t\n",
			len(page.Kvs), page.Kvs[0].Key, page.Count, page.More)
		revision, more = page.Header.Revision, page.More
		start = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
	return nil
}

func large(ctx context.Context, client *clientv3.Client) error {
	value := string(bytes.Repeat([]byte{7}, 1<<20))
	for i := range 9 {
		if _, err := client.Put(ctx, fmt.Sprintf("large/%d", i), value); err != nil {
			return err
		}
	}
	got, err := client.Get(ctx, "large/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	sevens := 0
	for _, kv := range got.Kvs {
		sevens += bytes.Count(kv.Value, []byte{7})
	}
	fmt.Printf("large: %d values, %d bytes of 7\n", len(got.Kvs), sevens)
	return nil
}

func leader(ctx context.Context, client *clientv3.Client) error {
	put, err := client.Put(clientv3.WithRequireLeader(ctx), "led", "x")
	if err != nil {
		return err
	}
	fmt.Printf("leader: put at revision %d\n", put.Header.Revision)
	return nil
}
