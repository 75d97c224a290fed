package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	pb "github.com/daskgateway/daskgateway-go/daskgateway/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

func (r *run) signIn(ctx context.Context) (saw, error) {
	offered, err := r.nobody.credentials.GetSignInOptions(ctx, &pb.GetSignInOptionsRequest{})
	if err != nil {
		return nil, err
	}
	ways := []string{}
	for _, option := range offered.Options {
		ways = append(ways, option.Name)
	}
	who, err := r.gateway.credentials.WhoAmI(ctx, &pb.WhoAmIRequest{})
	if err != nil {
		return nil, err
	}
	return saw{"ways": ways, "user": who.User}, nil
}

func (r *run) create(ctx context.Context) (saw, error) {
	r.requestID = newUUID()
	r.asked = &pb.CreateClusterRequest{
		Parent: "users/-", ClusterId: r.id, Cluster: sized(0), RequestId: r.requestID,
	}
	var trailer metadata.MD
	made, err := r.gateway.clusters.CreateCluster(ctx, r.asked, grpc.Trailer(&trailer))
	if err != nil {
		return nil, err
	}
	r.cluster, r.firstEtag = made, made.Etag
	return saw{
		"name": made.Name, "owner": made.Owner, "labels": made.Labels,
		"state": made.Status.State.String(), "replayed": replayed(trailer),
	}, nil
}

// The same call with the same request_id: its effect is answered again, and nothing is made.
func (r *run) repeat(ctx context.Context) (saw, error) {
	var trailer metadata.MD
	again, err := r.gateway.clusters.CreateCluster(ctx, r.asked, grpc.Trailer(&trailer))
	if err != nil {
		return nil, err
	}
	other := proto.Clone(r.asked).(*pb.CreateClusterRequest)
	other.ClusterId = r.id + "-other"
	_, err = r.gateway.clusters.CreateCluster(ctx, other)
	reused, err := refusal(err)
	if err != nil {
		return nil, err
	}
	return saw{"same": again.Uid == r.cluster.Uid, "replayed": replayed(trailer), "reused": reused}, nil
}

func (r *run) wait(ctx context.Context) (saw, error) {
	now, err := r.waitFor(ctx, pb.ClusterState_CLUSTER_STATE_ACTIVE)
	if err != nil {
		return nil, err
	}
	r.cluster = now
	return saw{"state": now.Status.State.String()}, nil
}

// A call waits for a minute at most, so it is repeated.
func (r *run) waitFor(ctx context.Context, state pb.ClusterState) (*pb.Cluster, error) {
	for {
		now, err := r.gateway.clusters.WaitCluster(ctx, &pb.WaitClusterRequest{
			Name: r.cluster.Name, States: []pb.ClusterState{state}, Timeout: durationpb.New(20 * time.Second),
		})
		if err != nil || now.Status.State == state {
			return now, err
		}
		if now.StopTime != nil {
			return nil, fmt.Errorf("it ended: %s: %s", now.Status.Reason, now.Status.Message)
		}
	}
}

// A watch from the beginning: what there is, then a bookmark that says that this was all.
func (r *run) watch(ctx context.Context) (saw, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told, err := r.gateway.clusters.WatchClusters(ctx, &pb.WatchClustersRequest{Clusters: []string{r.cluster.Name}})
	if err != nil {
		return nil, err
	}
	first, err := told.Recv()
	if err != nil {
		return nil, err
	}
	for {
		next, err := told.Recv()
		if err != nil {
			return nil, err
		}
		if next.GetBookmark().GetInitialStateComplete() {
			r.revision = next.Revision
			return saw{
				"first": first.GetEvent().GetType().String(), "name": first.GetEvent().GetCluster().GetName(),
				"complete": true,
			}, nil
		}
	}
}

func (r *run) scale(ctx context.Context) (saw, error) {
	now, err := r.resize(ctx, 1, "")
	if err != nil {
		return nil, err
	}
	before := r.cluster.Generation
	r.cluster = now
	return saw{
		"count": now.Spec.WorkerGroups["default"].GetCount(), "wished": now.Status.WorkerGroups["default"].Wished,
		"generations": now.Generation - before,
	}, nil
}

func (r *run) resize(ctx context.Context, count int32, etag string) (*pb.Cluster, error) {
	wish := sized(count)
	wish.Name, wish.Etag = r.cluster.Name, etag
	return r.gateway.clusters.UpdateCluster(ctx, &pb.UpdateClusterRequest{
		Cluster: wish, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"spec.worker_groups.default"}},
		RequestId: newUUID(),
	})
}

// The watch goes on where it ended: nothing of what happened meanwhile is missing.
func (r *run) resume(ctx context.Context) (saw, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told, err := r.gateway.clusters.WatchClusters(ctx, &pb.WatchClustersRequest{
		Clusters: []string{r.cluster.Name}, StartRevision: r.revision,
	})
	if err != nil {
		return nil, err
	}
	types := map[string]bool{}
	for {
		next, err := told.Recv()
		if err != nil {
			return nil, err
		}
		event := next.GetEvent()
		if event == nil {
			continue
		}
		if next.Revision <= r.revision {
			return nil, fmt.Errorf("revision %d was told before", next.Revision)
		}
		types[event.Type.String()] = true
		if event.Cluster.Status.WorkerGroups["default"].GetRunning() == 1 {
			return saw{"types": sorted(types), "running": 1}, nil
		}
	}
}

// A change that rests on what was read before the last change is refused.
func (r *run) conflict(ctx context.Context) (saw, error) {
	_, err := r.resize(ctx, 0, r.firstEtag)
	refused, err := refusal(err)
	if err != nil {
		return nil, err
	}
	now, err := r.gateway.clusters.GetCluster(ctx, &pb.GetClusterRequest{Name: r.cluster.Name})
	if err != nil {
		return nil, err
	}
	if now, err = r.resize(ctx, 0, now.Etag); err != nil {
		return nil, err
	}
	return saw{"stale": refused, "current": now.Spec.WorkerGroups["default"].GetCount()}, nil
}

func (r *run) exists(ctx context.Context) (saw, error) {
	again := proto.Clone(r.asked).(*pb.CreateClusterRequest)
	again.RequestId = newUUID()
	_, err := r.gateway.clusters.CreateCluster(ctx, again)
	return refusal(err)
}

// Two clusters on pages of one: the newest comes first.
func (r *run) pages(ctx context.Context) (saw, error) {
	second, err := r.gateway.clusters.CreateCluster(ctx, &pb.CreateClusterRequest{
		ClusterId: r.id + "-second", Cluster: sized(0), RequestId: newUUID(),
	})
	if err != nil {
		return nil, err
	}
	names, token, largest := []string{}, "", 0
	for first := true; first || token != ""; first = false {
		page, err := r.gateway.clusters.ListClusters(ctx, &pb.ListClustersRequest{PageSize: 1, PageToken: token})
		if err != nil {
			return nil, err
		}
		largest = max(largest, len(page.Clusters))
		for _, one := range page.Clusters {
			if one.Uid == r.cluster.Uid || one.Uid == second.Uid {
				names = append(names, one.Name)
			}
		}
		token = page.NextPageToken
	}
	_, err = r.gateway.clusters.StopCluster(ctx, &pb.StopClusterRequest{Name: second.Name, RequestId: newUUID()})
	return saw{"names": names, "largest": largest}, err
}

func (r *run) logs(ctx context.Context) (saw, error) {
	pieces, err := r.gateway.clusters.StreamLogs(ctx, &pb.StreamLogsRequest{
		Name: r.cluster.Name, Instances: []string{"scheduler"},
	})
	if err != nil {
		return nil, err
	}
	instances, text := map[string]bool{}, ""
	for {
		piece, err := pieces.Recv()
		if isEnd(err) {
			return saw{"instances": sorted(instances), "scheduler": strings.Contains(text, "Scheduler at:")}, nil
		}
		if err != nil {
			return nil, err
		}
		instances[piece.Instance] = true
		text += piece.Text
	}
}

func (r *run) errors(ctx context.Context) (saw, error) {
	clusters := r.gateway.clusters
	_, err := clusters.CreateCluster(ctx, &pb.CreateClusterRequest{ClusterId: "Not an id", Cluster: sized(-1)})
	invalid, err := refusal(err)
	if err != nil {
		return nil, err
	}
	_, err = clusters.GetCluster(ctx, &pb.GetClusterRequest{Name: "users/-/clusters/nosuch"})
	missing, err := refusal(err)
	if err != nil {
		return nil, err
	}
	_, err = clusters.GetCluster(ctx, &pb.GetClusterRequest{Name: "users/bob/clusters/nosuch"})
	another, err := refusal(err)
	if err != nil {
		return nil, err
	}
	_, err = r.nobody.clusters.GetCluster(ctx, &pb.GetClusterRequest{Name: r.cluster.Name})
	unknown, err := refusal(err)
	return saw{"invalid": invalid, "missing": missing, "another's": another, "nobody": unknown}, err
}

// The client's own deadline ends a call: one that waits on purpose is answered just before, a watch
// that would go on is ended.
func (r *run) deadline(ctx context.Context) (saw, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	began := time.Now()
	told, err := r.gateway.clusters.WatchClusters(ctx, &pb.WatchClustersRequest{Clusters: []string{r.cluster.Name}})
	for err == nil {
		_, err = told.Recv()
	}
	refused, err := refusal(err)
	if err != nil {
		return nil, err
	}
	return saw{"code": refused["code"], "early": time.Since(began) < 30*time.Second}, nil
}

func (r *run) stop(ctx context.Context) (saw, error) {
	stopping, err := r.gateway.clusters.StopCluster(ctx, &pb.StopClusterRequest{
		Name: r.cluster.Name, RequestId: newUUID(),
	})
	if err != nil {
		return nil, err
	}
	ended, err := r.waitFor(ctx, pb.ClusterState_CLUSTER_STATE_STOPPED)
	if err != nil {
		return nil, err
	}
	return saw{
		"first": stopping.Status.State.String(), "then": ended.Status.State.String(), "reason": ended.Status.Reason,
	}, nil
}

func sized(count int32) *pb.Cluster {
	group := &pb.WorkerGroup{Size: &pb.WorkerGroup_Count{Count: count}}
	return &pb.Cluster{
		Labels: map[string]string{"made-by": "conformance"},
		Spec:   &pb.ClusterSpec{WorkerGroups: map[string]*pb.WorkerGroup{"default": group}},
	}
}

func newUUID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func replayed(trailer metadata.MD) bool {
	found := trailer.Get("x-idempotent-replay")
	return len(found) == 1 && found[0] == "1"
}
