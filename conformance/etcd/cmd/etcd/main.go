// Command etcd is the reference server of the conformance checks: etcd's own code with all of its
// flags, built from its published Go module, so that a story can be shown to be right by running it
// against etcd before kvshim is judged by it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
