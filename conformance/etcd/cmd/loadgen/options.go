package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

const defaultPhases = "create,update,get,list,paged,watch,delete"

// makers are the phases that begin with nothing and leave all objects.
var makers = []string{"create", "fill"}

// options is the command line.
type options struct {
	endpoints   []string
	tls         transport.TLSInfo
	prefix      string
	objects     int
	valueBytes  int
	workers     int
	connections int
	phases      []string
	getPasses   int
	changes     int
	listRepeats int
	pageRepeats int
	pageLimit   int
	watchers    int
	watchRate   int
	watchTime   time.Duration
	drainTime   time.Duration
	stormTime   time.Duration
	logins      int
	opTimeout   time.Duration
	timeout     time.Duration
	serverPID   int
}

func parseOptions(arguments []string) (options, error) {
	var o options
	var endpoints, phaseNames string
	flags := flag.NewFlagSet("loadgen", flag.ContinueOnError)
	flags.StringVar(&endpoints, "endpoints", "http://127.0.0.1:2379", "client URLs, by comma; connections take them in turn")
	flags.StringVar(&o.tls.TrustedCAFile, "cacert", "", "CA certificate to verify the server with")
	flags.StringVar(&o.tls.CertFile, "cert", "", "client certificate")
	flags.StringVar(&o.tls.KeyFile, "key", "", "client key")
	flags.StringVar(&o.prefix, "prefix", "/registry/pods/", "prefix of all keys")
	flags.IntVar(&o.objects, "n", 5000, "number of objects")
	flags.IntVar(&o.valueBytes, "value-bytes", 1024, "size of each value")
	flags.IntVar(&o.workers, "workers", 64, "requests in flight")
	flags.IntVar(&o.connections, "connections", 4, "connections that the workers share")
	flags.StringVar(&phaseNames, "phases", defaultPhases, "what to run, by comma; also: fill, stream, listwatch, old, storm")
	flags.IntVar(&o.getPasses, "get-passes", 1, "how often get reads each object")
	flags.IntVar(&o.changes, "changes", 300000, "updates between the revision that old reads and its head")
	flags.IntVar(&o.listRepeats, "list-repeats", 3, "lists of each kind; the median counts")
	flags.IntVar(&o.pageRepeats, "paged-repeats", 0, "the same for lists in pages; 0: as --list-repeats")
	flags.IntVar(&o.pageLimit, "page-limit", 500, "objects in a page")
	flags.IntVar(&o.watchers, "watchers", 100, "watchers of the whole prefix")
	flags.IntVar(&o.watchRate, "watch-rate", 200, "updates a second while watching")
	flags.DurationVar(&o.watchTime, "watch-duration", 5*time.Second, "how long to update while watching")
	flags.DurationVar(&o.drainTime, "watch-drain", 60*time.Second, "how long to wait for the last events")
	flags.DurationVar(&o.stormTime, "storm-duration", 20*time.Second, "how long storm keeps listing")
	flags.IntVar(&o.logins, "logins", 100, "logins, or TLS handshakes, in storm")
	flags.DurationVar(&o.opTimeout, "op-timeout", 60*time.Second, "limit of one request")
	flags.DurationVar(&o.timeout, "timeout", time.Hour, "limit of the run")
	flags.IntVar(&o.serverPID, "server-pid", 0, "process whose CPU time is read around each phase")
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	o.endpoints = strings.Split(endpoints, ",")
	o.phases = strings.Split(phaseNames, ",")
	if o.pageRepeats == 0 {
		o.pageRepeats = o.listRepeats
	}
	return o, o.validate()
}

func (o *options) validate() error {
	for name, number := range map[string]int{
		"n": o.objects, "workers": o.workers, "connections": o.connections, "watchers": o.watchers,
		"watch-rate": o.watchRate, "list-repeats": o.listRepeats, "page-limit": o.pageLimit,
		"paged-repeats": o.pageRepeats,
		"get-passes":    o.getPasses, "changes": o.changes, "logins": o.logins,
	} {
		if number < 1 {
			return fmt.Errorf("--%s must be at least 1", name)
		}
	}
	if o.valueBytes < stampBytes {
		return fmt.Errorf("--value-bytes must be at least %d", stampBytes)
	}
	if !strings.HasSuffix(o.prefix, "/") {
		return errors.New("--prefix must end in a slash")
	}
	for i, name := range o.phases {
		if phases[name] == nil {
			return fmt.Errorf("unknown phase %q", name)
		}
		if (slices.Contains(makers, name) && i > 0) || (name == "delete" && i < len(o.phases)-1) {
			return errors.New("create and fill can only be the first phase and delete the last")
		}
	}
	return nil
}

// startsEmpty says whether the objects are made by this run rather than found.
func (o *options) startsEmpty() bool {
	return slices.Contains(makers, o.phases[0])
}
