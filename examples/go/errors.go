package main

import (
	"errors"
	"io"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Returns what a refusal tells programs: its code, and what its details say. A call that was
// answered is an error here.
func refusal(err error) (saw, error) {
	if err == nil {
		return nil, errors.New("the call was answered, and should have been refused")
	}
	told := status.Convert(err)
	found := saw{"code": code.Code(told.Code()).String()}
	for _, detail := range told.Details() {
		switch one := detail.(type) {
		case *errdetails.ErrorInfo:
			found["reason"], found["domain"] = one.Reason, one.Domain
		case *errdetails.BadRequest:
			fields := map[string]bool{}
			for _, violation := range one.FieldViolations {
				fields[violation.Field] = true
			}
			found["fields"] = sorted(fields)
		}
	}
	return found, nil
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) }

func sorted(names map[string]bool) []string {
	found := []string{}
	for name := range names {
		found = append(found, name)
	}
	slices.Sort(found)
	return found
}
