// A client of the gateway's API in Go, and one conformance run: what a client does in its life,
// each step told as a line of JSON. The same run is written in the directories beside this one.
//
//	conformance grpc|connect CLUSTER-ID
//	conformance whoami
//
// DASKGATEWAY_ADDRESS, DASKGATEWAY_USER and DASKGATEWAY_PASSWORD say where the gateway is and who
// calls; DASKGATEWAY_CA_FILE names a CA beside those of the system. A client certificate, in
// DASKGATEWAY_CLIENT_CERT and DASKGATEWAY_CLIENT_KEY, is shown in place of user and password, to the
// name that the gateway has for that.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	pb "github.com/daskgateway/daskgateway-go/daskgateway/v1"
)

const patience = 90 * time.Second

// What a step has seen: the same in every language.
type saw map[string]any

type run struct {
	gateway *gateway // called with credentials
	nobody  *gateway // called without
	id      string
	cluster *pb.Cluster
	// A UUID of the create, and what was asked for: the same call can be repeated.
	requestID string
	asked     *pb.CreateClusterRequest
	firstEtag string
	revision  int64 // up to which the watch has told everything
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "whoami" {
		if err := whoAmI(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) != 3 || (os.Args[1] != "grpc" && os.Args[1] != "connect") {
		fmt.Fprintln(os.Stderr, "usage: conformance grpc|connect CLUSTER-ID, or conformance whoami")
		os.Exit(2)
	}
	if err := conformance(os.Args[1], os.Args[2]); err != nil {
		os.Exit(1)
	}
}

// Tells whom the gateway takes the caller for, over gRPC.
func whoAmI() error {
	place, err := placeFromEnvironment()
	if err != nil {
		return err
	}
	gateway, err := open("grpc", place, place.authorization())
	if err != nil {
		return err
	}
	defer gateway.close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	who, err := gateway.credentials.WhoAmI(ctx, &pb.WhoAmIRequest{})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(saw{"user": who.User, "way": who.Way})
}

func conformance(way, id string) error {
	place, err := placeFromEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return err
	}
	r := &run{id: id}
	if r.gateway, err = open(way, place, place.authorization()); err == nil {
		r.nobody, err = open(way, place, "")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return err
	}
	defer r.gateway.close()
	defer r.nobody.close()
	defer r.leaveNothing()
	for _, step := range []struct {
		name string
		do   func(context.Context) (saw, error)
	}{
		{"sign-in", r.signIn},
		{"create", r.create},
		{"repeat", r.repeat},
		{"wait", r.wait},
		{"watch", r.watch},
		{"scale", r.scale},
		{"resume", r.resume},
		{"conflict", r.conflict},
		{"exists", r.exists},
		{"pages", r.pages},
		{"logs", r.logs},
		{"errors", r.errors},
		{"deadline", r.deadline},
		{"scheduler", r.scheduler},
		{"stop", r.stop},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		seen, err := step.do(ctx)
		cancel()
		line := saw{"step": step.name, "ok": err == nil}
		var skipped skip
		switch {
		case errors.As(err, &skipped):
			line["ok"], line["skipped"] = true, string(skipped)
		case err != nil:
			line["error"] = err.Error()
		default:
			line["saw"] = seen
		}
		text, _ := json.Marshal(line)
		fmt.Println(string(text))
		if line["ok"] == false {
			return err
		}
	}
	return nil
}

// A step that cannot be taken by this way.
type skip string

func (s skip) Error() string { return string(s) }

// After a step that failed the cluster must not live on.
func (r *run) leaveNothing() {
	if r.cluster == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = r.gateway.clusters.StopCluster(ctx, &pb.StopClusterRequest{Name: r.cluster.Name})
}
