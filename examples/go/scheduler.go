package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"time"

	pb "github.com/daskgateway/daskgateway-go/daskgateway/v1"
)

// Connects to the scheduler itself, by TLS with the certificate that the gateway signs for a key
// made here. The scheduler speaks first, to who has one; who has none hears nothing of it.
func (r *run) scheduler(ctx context.Context) (saw, error) {
	if r.gateway.place.path != "" {
		return nil, skip("only HTTP passes here; Dask's own client takes a WebSocket")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	signed, err := r.gateway.credentials.GenerateClientCertificate(ctx, &pb.GenerateClientCertificateRequest{
		Name:      r.cluster.Name,
		PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(signed.Certificate))
	if block == nil {
		return nil, errors.New("the certificate is no PEM")
	}
	mine := tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(signed.CaCertificate)) {
		return nil, errors.New("the CA is no PEM")
	}
	// dgw://host:port/uid
	place, _, _ := strings.Cut(strings.TrimPrefix(r.cluster.Status.Endpoints.Scheduler, "dgw://"), "/")
	config := &tls.Config{ServerName: signed.ServerName, RootCAs: roots}
	without := greeting(ctx, place, config)
	config.Certificates = []tls.Certificate{mine}
	with := greeting(ctx, place, config)
	return saw{"with a certificate": with, "without": without}, nil
}

// Returns whether the scheduler greets who connects so.
func greeting(ctx context.Context, place string, config *tls.Config) string {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 30 * time.Second}, Config: config}
	connection, err := dialer.DialContext(ctx, "tcp", place)
	if err != nil {
		return "no TLS: " + err.Error()
	}
	defer connection.Close()
	_ = connection.SetReadDeadline(time.Now().Add(30 * time.Second))
	if count, err := connection.Read(make([]byte, 8)); count == 0 || err != nil {
		return "refused"
	}
	return "greeted"
}
