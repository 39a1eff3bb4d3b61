// Command flags prints the flags that etcd's embed package defines, as JSON: name, Go type of the
// value, and default. conformance/test_flags.py compares kvshim's own table with it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
)

type flagFacts struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Default string `json:"default"`
}

func main() {
	set := flag.NewFlagSet("etcd", flag.ContinueOnError)
	embed.NewConfig().AddFlags(set)
	var all []flagFacts
	set.VisitAll(func(f *flag.Flag) {
		all = append(all, flagFacts{f.Name, fmt.Sprintf("%T", f.Value), f.DefValue})
	})
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
