// Command kube-apiserver is the whole, unmodified Kubernetes API server, built from its published
// Go modules so that the conformance story needs neither a Kubernetes checkout nor an image.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	// Registered by side effect, as in any Kubernetes component: log formats and metrics about
	// clients, work queues and the version.
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	os.Exit(cli.Run(app.NewAPIServerCommand()))
}
