package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"connectrpc.com/connect"
	pb "github.com/daskgateway/daskgateway-go/daskgateway/v1"
	"github.com/daskgateway/daskgateway-go/daskgateway/v1/daskgatewayv1connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Where the gateway is.
type place struct {
	host     string
	path     string // below which it is served by an HTTP proxy; empty elsewhere
	secure   bool
	roots    *x509.CertPool // nil for the system's
	user     string
	password string
	shown    []tls.Certificate // of the client; none where a password says who calls
}

func placeFromEnvironment() (*place, error) {
	address, err := url.Parse(os.Getenv("DASKGATEWAY_ADDRESS"))
	if err != nil || address.Host == "" || (address.Scheme != "http" && address.Scheme != "https") {
		return nil, errors.New("DASKGATEWAY_ADDRESS must be http://host:port or https://host:port")
	}
	found := &place{
		host: address.Host, path: strings.TrimSuffix(address.Path, "/"), secure: address.Scheme == "https",
		user: os.Getenv("DASKGATEWAY_USER"), password: os.Getenv("DASKGATEWAY_PASSWORD"),
	}
	if file := os.Getenv("DASKGATEWAY_CA_FILE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		found.roots = x509.NewCertPool()
		if !found.roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("DASKGATEWAY_CA_FILE: %s holds no certificate (PEM)", file)
		}
	}
	if file := os.Getenv("DASKGATEWAY_CLIENT_CERT"); file != "" {
		pair, err := tls.LoadX509KeyPair(file, os.Getenv("DASKGATEWAY_CLIENT_KEY"))
		if err != nil {
			return nil, fmt.Errorf("DASKGATEWAY_CLIENT_CERT, DASKGATEWAY_CLIENT_KEY: %w", err)
		}
		found.shown = []tls.Certificate{pair}
	}
	return found, nil
}

// Returns the value of `authorization`. `Bearer <token>` is taken just so.
// A client certificate goes without: it is shown in TLS.
func (p *place) authorization() string {
	if p.shown != nil {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+p.password))
}

func (p *place) tls() *tls.Config { return &tls.Config{RootCAs: p.roots, Certificates: p.shown} }

// The gateway's services, as gRPC's generated clients whatever the way.
type gateway struct {
	place       *place
	clusters    pb.ClusterServiceClient
	credentials pb.CredentialServiceClient
	close       func()
}

func open(way string, p *place, authorization string) (*gateway, error) {
	if way == "connect" {
		return overConnect(p, authorization), nil
	}
	secured := insecure.NewCredentials()
	if p.secure {
		secured = credentials.NewTLS(p.tls())
	}
	connection, err := grpc.NewClient(
		p.host, grpc.WithTransportCredentials(secured), grpc.WithPerRPCCredentials(shown(authorization)),
	)
	if err != nil {
		return nil, err
	}
	return &gateway{
		place: p, clusters: pb.NewClusterServiceClient(connection),
		credentials: pb.NewCredentialServiceClient(connection), close: func() { connection.Close() },
	}, nil
}

// What goes with every call over gRPC.
type shown string

func (s shown) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if s == "" {
		return nil, nil
	}
	return map[string]string{"authorization": string(s)}, nil
}

// Passwords in clear text are for a gateway on the same machine, as in tests.
func (s shown) RequireTransportSecurity() bool { return false }

// Connect's client speaks JSON over HTTP/1.1, where gRPC does not pass.
func overConnect(p *place, authorization string) *gateway {
	scheme := "http"
	if p.secure {
		scheme = "https"
	}
	transport := &http.Transport{TLSClientConfig: p.tls()}
	client := &http.Client{Transport: authorized{transport, authorization}}
	address := scheme + "://" + p.host + p.path
	return &gateway{
		place:       p,
		clusters:    clusters{over: daskgatewayv1connect.NewClusterServiceClient(client, address, connect.WithProtoJSON())},
		credentials: signIns{over: daskgatewayv1connect.NewCredentialServiceClient(client, address, connect.WithProtoJSON())},
		close:       transport.CloseIdleConnections,
	}
}

type authorized struct {
	over          http.RoundTripper
	authorization string
}

func (a authorized) RoundTrip(request *http.Request) (*http.Response, error) {
	if a.authorization != "" {
		request = request.Clone(request.Context())
		request.Header.Set("Authorization", a.authorization)
	}
	return a.over.RoundTrip(request)
}
