package storage

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
)

const readyWithin = 60 * time.Second

// kinds of server that a suite may ask for.
type need int

const (
	// shared: one server for all suites, each of which has a prefix of its own.
	shared need = iota
	// fresh: a server of its own, since the suite counts revisions or compacts.
	fresh
	// chatty: fresh, with progress notifications every second.
	chatty
)

// server is one running datastore: the program named by DATASTORE, started with etcd's flags.
type server struct {
	endpoint string
	process  *exec.Cmd
	log      bytes.Buffer
	stopped  chan struct{}
}

var theShared struct {
	sync.Mutex
	*server
}

// serverFor starts what a suite needs; what is fresh ends with the suite.
func serverFor(t *testing.T, wanted need) *server {
	t.Helper()
	if wanted == shared {
		theShared.Lock()
		defer theShared.Unlock()
		if theShared.server == nil {
			theShared.server = start(t, sharedDirectory)
		}
		return theShared.server
	}
	var flags []string
	if wanted == chatty {
		flags = append(flags, "--watch-progress-notify-interval=1s")
	}
	started := start(t, t.TempDir(), flags...)
	t.Cleanup(started.stop)
	return started
}

func start(t *testing.T, directory string, flags ...string) *server {
	t.Helper()
	program := os.Getenv("DATASTORE")
	if program == "" {
		t.Fatal("DATASTORE names no program: run this by pytest conformance/storage")
	}
	client, peer := freeURL(t), freeURL(t)
	arguments := []string{
		"--name=m1", "--data-dir=" + filepath.Join(directory, "data"),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=m1=" + peer,
	}
	made := &server{endpoint: strings.TrimPrefix(client, "http://"), stopped: make(chan struct{})}
	made.process = exec.Command(program, append(arguments, flags...)...)
	made.process.Stdout, made.process.Stderr = &made.log, &made.log
	if err := made.process.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = made.process.Wait()
		close(made.stopped)
	}()
	if err := made.waitReady(); err != nil {
		made.stop()
		t.Fatalf("%s: %v; it said:\n%s", program, err, made.log.String())
	}
	return made
}

func (s *server) waitReady() error {
	deadline := time.Now().Add(readyWithin)
	for time.Now().Before(deadline) {
		select {
		case <-s.stopped:
			return fmt.Errorf("ended instead of serving")
		case <-time.After(20 * time.Millisecond):
		}
		if connection, err := net.Dial("tcp", s.endpoint); err == nil {
			return connection.Close()
		}
	}
	return fmt.Errorf("not ready within %v", readyWithin)
}

func (s *server) stop() {
	_ = s.process.Process.Kill()
	<-s.stopped
}

// connect makes the client that an API server has, which counts what the suites want counted.
func (s *server) connect(t *testing.T) *kubernetes.Client {
	t.Helper()
	client, err := kubernetes.New(clientv3.Config{
		Endpoints:   []string{s.endpoint},
		DialTimeout: 10 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	if _, err := client.KV.Get(ctx, "-"); err != nil {
		t.Fatal(err)
	}
	lists := storagetesting.NewKubernetesRecorder(client.Kubernetes)
	client.KV = storagetesting.NewKVRecorder(client.KV, lists)
	client.Kubernetes = lists
	return client
}

func freeURL(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return "http://" + listener.Addr().String()
}

var sharedDirectory string

// TestMain ends the shared server after everything else.
func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "storage-suites-")
	if err != nil {
		panic(err)
	}
	sharedDirectory = directory
	code := m.Run()
	if theShared.server != nil {
		theShared.stop()
	}
	_ = os.RemoveAll(directory)
	os.Exit(code)
}
