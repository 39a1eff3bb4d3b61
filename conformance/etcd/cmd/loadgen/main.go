// Command loadgen puts kube-apiserver's load on one etcd server, or cluster, and measures it.
//
// The phases run one after the other over n objects under one prefix: create, update, get, list,
// list in pages, watch under updates, delete; requests have the shapes that kube-apiserver's own
// storage client sends. On request there are more: fill makes the objects in large transactions,
// stream lists by RangeStream, listwatch watches while lists run, old reads pages at a revision far
// back, storm is what must not hold up a server's event loop. One JSON object on stdout is the result of a run. Every answer is checked
// (see check.go): the first wrong one ends the run with one sentence on stderr and exit code 1.
//
// The server must have no other writer: revisions are checked to be dense.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	opts, err := parseOptions(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := run(ctx, opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

// result is what a run prints. The phases carry only what they have measured.
type result struct {
	Objects     int                     `json:"objects"`
	ValueBytes  int                     `json:"value_bytes"`
	Workers     int                     `json:"workers"`
	Connections int                     `json:"connections"`
	Revisions   int64                   `json:"revisions"` // by which this run moved the store
	ClientCPU   float64                 `json:"client_cpu_seconds"`
	Phases      map[string]*measurement `json:"phases"`
}

// run goes through the phases in the order asked for.
func run(ctx context.Context, opts options) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, opts.timeout)
	defer cancel()
	l, err := newLoad(opts)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if err := l.begin(ctx); err != nil {
		return nil, fmt.Errorf("before the first phase: %w", err)
	}
	out := &result{
		Objects:     opts.objects,
		ValueBytes:  opts.valueBytes,
		Workers:     opts.workers,
		Connections: opts.connections,
		Phases:      map[string]*measurement{},
	}
	for _, name := range opts.phases {
		measured, err := l.measure(ctx, phases[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out.Phases[name] = measured
	}
	if err := l.checkDense(ctx); err != nil {
		return nil, fmt.Errorf("after the last phase: %w", err)
	}
	out.Revisions = l.writes.Load()
	out.ClientCPU = ownCPU().Seconds()
	return out, nil
}

// phases are the parts of the load, by the name that --phases takes.
var phases = map[string]func(*load, context.Context) (*measurement, error){
	"create":    (*load).create,
	"fill":      (*load).fill,
	"update":    (*load).update,
	"get":       (*load).get,
	"list":      (*load).listAll,
	"paged":     (*load).listPaged,
	"stream":    (*load).listStream,
	"watch":     (*load).watch,
	"listwatch": (*load).watchUnderLists,
	"old":       (*load).old,
	"storm":     (*load).storm,
	"delete":    (*load).delete,
}
