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
		request, newest, err := resume(options)
		if err != nil {
			return 2, err
		}
		answers, err := listen(client, request, newest, &heard, options)
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
		wait(attempt, why, options.to)
		attempt = min(attempt+1, attempts)
	}
}

// resume asks for what follows the stored position, or for everything where none is stored; with it comes the
// newest version that was dealt with of each lot.
func resume(options Options) (*production.WatchLotsRequest, map[string]int64, error) {
	request := &production.WatchLotsRequest{States: []production.LotState{production.LotState_LOT_STATE_HELD}}
	if options.product != "" {
		request.Products = []string{options.product}
	}
	newest := map[string]int64{}
	data, err := os.ReadFile(options.state)
	if errors.Is(err, fs.ErrNotExist) {
		request.FromStart = true
		return request, newest, nil
	}
	if err != nil {
		return nil, nil, err
	}
	stored := &production.WatchLotsResponse{}
	if err := proto.Unmarshal(data, stored); err != nil || stored.Position == nil {
		return nil, nil, fmt.Errorf("%s: no position is stored in it; remove it to begin anew", options.state)
	}
	for _, change := range stored.Changes {
		newest[change.Lot] = change.Version
	}
	request.After = stored.Position
	return request, newest, nil
}

// store replaces position and versions in one step. Who has a database keeps the version with the lot, and the
// position in the same transaction.
func store(path string, position *common.PositionVector, newest map[string]int64) error {
	stored := &production.WatchLotsResponse{Position: position}
	for lot, version := range newest {
		stored.Changes = append(stored.Changes, &production.LotChange{Lot: lot, Version: version})
	}
	data, err := proto.Marshal(stored)
	if err != nil {
		return err
	}
	return writeWhole(path, data)
}

// failed says that it is not the stream that ended, but what was heard could not be stored.
type failed struct{ error }

// listen follows one stream until it ends with an error, or as many lots were heard as were asked for.
func listen(client production.ProductionServiceClient, request *production.WatchLotsRequest, newest map[string]int64, heard *int, options Options) (int, error) {
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
			// Told again, or an older one behind a newer one. 0 is a platform without versions.
			if change.Version > 0 && change.Version <= newest[change.Lot] {
				continue
			}
			newest[change.Lot] = change.Version
			fmt.Printf("held %s since %s: %s\n", change.Lot, stamp(change.At), change.Reason)
			*heard++
		}
		// Only now: after a kill before this line the same changes are told again, and none is lost.
		if err := store(options.state, answer.Position, newest); err != nil {
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
