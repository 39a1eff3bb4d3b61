package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// connect dials the endpoint, with TLS and a client certificate if their files are given.
func connect(args []string) (*clientv3.Client, error) {
	config := clientv3.Config{DialTimeout: timeout, MaxCallRecvMsgSize: 64 << 20}
	switch len(args) {
	case 1:
	case 4:
		secured, err := tlsConfig(args[1], args[2], args[3])
		if err != nil {
			return nil, err
		}
		config.TLS = secured
	default:
		return nil, fmt.Errorf("usage: story ENDPOINT [CA CERTIFICATE KEY]")
	}
	config.Endpoints = args[:1]
	return clientv3.New(config)
}

func tlsConfig(ca, certificate, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}, nil
}
