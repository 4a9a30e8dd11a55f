package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	common "example.com/partner/gen/pharmaloop/common/v1"
	production "example.com/partner/gen/pharmaloop/production/v1"
)

// watch tells of every held lot, from the first that the log holds, in this run or one before.
func watch(connection *grpc.ClientConn, options Options) (int, error) {
	client := production.NewProductionServiceClient(connection)
	for heard, attempt := 0, 0; ; {
		request, err := resume(options)
		if err != nil {
			return 2, err
		}
		answers, err := listen(client, request, &heard, options)
		if err == nil {
			return 0, nil
		}
		if answers > 0 {
			attempt = 0
		}
		if status.Code(err) == codes.OutOfRange {
			return 2, fmt.Errorf("%w; remove %s to begin anew", told(err), options.state)
		}
		var local *failed
		if errors.As(err, &local) {
			return 2, err
		}
		code := status.Code(err)
		_, call := again[code]
		_, on := goOn[code]
		if !call && !on {
			return 2, told(err)
		}
		why := name(code)
		if errors.Is(err, io.EOF) {
			why = "the stream ended"
		}
		wait(attempt, why)
		attempt = min(attempt+1, attempts)
	}
}

// resume asks for what follows the stored position, or for everything where none is stored.
func resume(options Options) (*production.WatchLotsRequest, error) {
	request := &production.WatchLotsRequest{States: []production.LotState{production.LotState_LOT_STATE_HELD}}
	if options.product != "" {
		request.Products = []string{options.product}
	}
	stored, err := os.ReadFile(options.state)
	if errors.Is(err, fs.ErrNotExist) {
		request.FromStart = true
		return request, nil
	}
	if err != nil {
		return nil, err
	}
	request.After = &common.PositionVector{}
	if err := proto.Unmarshal(stored, request.After); err != nil {
		return nil, fmt.Errorf("%s: no position is stored in it; remove it to begin anew", options.state)
	}
	return request, nil
}

// failed says that it is not the stream that ended, but what was heard could not be stored.
type failed struct{ error }

// listen follows one stream until it ends with an error, or as many lots were heard as were asked for.
func listen(client production.ProductionServiceClient, request *production.WatchLotsRequest, heard *int, options Options) (int, error) {
	ctx, cancel := as(options.actor, watchTime)
	defer cancel()
	stream, err := client.WatchLots(ctx, request)
	if err != nil {
		return 0, err
	}
	for answers := 0; ; answers++ {
		answer, err := stream.Recv()
		if err != nil {
			return answers, err
		}
		for _, change := range answer.Changes {
			fmt.Printf("held %s since %s: %s\n", change.Lot, stamp(change.At), change.Reason)
			*heard++
		}
		// Only now: after a kill before this line the same changes are told again, and none is lost.
		position, err := proto.Marshal(answer.Position)
		if err == nil {
			err = writeWhole(options.state, position)
		}
		if err != nil {
			return answers, &failed{err}
		}
		if options.count > 0 && *heard >= options.count {
			return answers, nil
		}
	}
}

// stamp is RFC 3339 in whole seconds.
func stamp(at *timestamppb.Timestamp) string {
	return at.AsTime().UTC().Format("2006-01-02T15:04:05Z") // truncates
}
