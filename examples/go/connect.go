package main

// Connect's generated clients in the shape of gRPC's, so that the run is written once.

import (
	"context"
	"errors"
	"io"
	"strings"

	"connectrpc.com/connect"
	pb "github.com/daskgateway/daskgateway-go/daskgateway/v1"
	"github.com/daskgateway/daskgateway-go/daskgateway/v1/daskgatewayv1connect"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

type clusters struct {
	pb.ClusterServiceClient // the calls that the run does not make
	over                    daskgatewayv1connect.ClusterServiceClient
}

func (c clusters) CreateCluster(ctx context.Context, q *pb.CreateClusterRequest, o ...grpc.CallOption) (*pb.Cluster, error) {
	return call(ctx, c.over.CreateCluster, q, o)
}

func (c clusters) GetCluster(ctx context.Context, q *pb.GetClusterRequest, o ...grpc.CallOption) (*pb.Cluster, error) {
	return call(ctx, c.over.GetCluster, q, o)
}

func (c clusters) ListClusters(ctx context.Context, q *pb.ListClustersRequest, o ...grpc.CallOption) (*pb.ListClustersResponse, error) {
	return call(ctx, c.over.ListClusters, q, o)
}

func (c clusters) UpdateCluster(ctx context.Context, q *pb.UpdateClusterRequest, o ...grpc.CallOption) (*pb.Cluster, error) {
	return call(ctx, c.over.UpdateCluster, q, o)
}

func (c clusters) StopCluster(ctx context.Context, q *pb.StopClusterRequest, o ...grpc.CallOption) (*pb.Cluster, error) {
	return call(ctx, c.over.StopCluster, q, o)
}

func (c clusters) WaitCluster(ctx context.Context, q *pb.WaitClusterRequest, o ...grpc.CallOption) (*pb.Cluster, error) {
	return call(ctx, c.over.WaitCluster, q, o)
}

func (c clusters) WatchClusters(ctx context.Context, q *pb.WatchClustersRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pb.WatchClustersResponse], error) {
	return follow(ctx, c.over.WatchClusters, q)
}

func (c clusters) StreamLogs(ctx context.Context, q *pb.StreamLogsRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[pb.StreamLogsResponse], error) {
	return follow(ctx, c.over.StreamLogs, q)
}

type signIns struct {
	pb.CredentialServiceClient
	over daskgatewayv1connect.CredentialServiceClient
}

func (s signIns) GetSignInOptions(ctx context.Context, q *pb.GetSignInOptionsRequest, o ...grpc.CallOption) (*pb.GetSignInOptionsResponse, error) {
	return call(ctx, s.over.GetSignInOptions, q, o)
}

func (s signIns) WhoAmI(ctx context.Context, q *pb.WhoAmIRequest, o ...grpc.CallOption) (*pb.WhoAmIResponse, error) {
	return call(ctx, s.over.WhoAmI, q, o)
}

func (s signIns) GenerateClientCertificate(ctx context.Context, q *pb.GenerateClientCertificateRequest, o ...grpc.CallOption) (*pb.GenerateClientCertificateResponse, error) {
	return call(ctx, s.over.GenerateClientCertificate, q, o)
}

func call[Q, A any](
	ctx context.Context,
	do func(context.Context, *connect.Request[Q]) (*connect.Response[A], error),
	asked *Q,
	options []grpc.CallOption,
) (*A, error) {
	answer, err := do(ctx, connect.NewRequest(asked))
	if err != nil {
		return nil, asStatus(err)
	}
	for _, option := range options {
		if wanted, ok := option.(grpc.TrailerCallOption); ok {
			*wanted.TrailerAddr = metadata.MD{}
			for name, values := range answer.Trailer() {
				(*wanted.TrailerAddr)[strings.ToLower(name)] = values
			}
		}
	}
	return answer.Msg, nil
}

func follow[Q, A any](
	ctx context.Context,
	do func(context.Context, *connect.Request[Q]) (*connect.ServerStreamForClient[A], error),
	asked *Q,
) (grpc.ServerStreamingClient[A], error) {
	answers, err := do(ctx, connect.NewRequest(asked))
	if err != nil {
		return nil, asStatus(err)
	}
	return &stream[A]{answers: answers}, nil
}

type stream[A any] struct {
	grpc.ClientStream
	answers *connect.ServerStreamForClient[A]
}

func (s *stream[A]) Recv() (*A, error) {
	if s.answers.Receive() {
		return s.answers.Msg(), nil
	}
	if err := s.answers.Err(); err != nil {
		return nil, asStatus(err)
	}
	return nil, io.EOF
}

// Returns Connect's error as gRPC's: the same code, the same details.
func asStatus(err error) error {
	told := &statuspb.Status{Code: int32(codes.Unknown), Message: err.Error()}
	var failed *connect.Error
	if errors.As(err, &failed) {
		told.Code, told.Message = int32(failed.Code()), failed.Message()
		for _, detail := range failed.Details() {
			told.Details = append(told.Details, &anypb.Any{
				TypeUrl: "type.googleapis.com/" + detail.Type(), Value: detail.Bytes(),
			})
		}
	}
	return status.FromProto(told).Err()
}
