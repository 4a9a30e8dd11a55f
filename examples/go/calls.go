package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	callTime         = 10 * time.Second // a call is given up after so long
	attempts         = 10               // and tried so often in all
	watchTime        = time.Hour        // a subscription is renewed: it has a deadline like every call
	firstWait        = 100 * time.Millisecond
	longestWait      = 10 * time.Second
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
)

// The names of statuses as all languages print them.
var names = map[codes.Code]string{
	codes.Unavailable: "UNAVAILABLE", codes.DeadlineExceeded: "DEADLINE_EXCEEDED",
	codes.ResourceExhausted: "RESOURCE_EXHAUSTED", codes.Aborted: "ABORTED",
}

// again: may the same request, sent again, succeed? It has one effect all the same.
func again(err error) bool {
	_, is := names[status.Code(err)]
	return is
}

// wait longer after every failure, and never as long as others do ("full jitter").
func wait(attempt int, err error) {
	most := min(longestWait, firstWait<<attempt)
	pause := rand.N(most)
	fmt.Fprintf(os.Stderr, "partner: %s, again in %.1f s\n", names[status.Code(err)], pause.Seconds())
	time.Sleep(pause)
}

// as says who calls, and until when.
func as(actor string, within time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-actor", actor), within)
}

// call makes one call with its deadline, and sends it again while that can help.
func call[T any](actor string, one func(context.Context) (T, error)) (T, error) {
	for attempt := 0; ; attempt++ {
		ctx, cancel := as(actor, callTime)
		answer, err := one(ctx)
		cancel()
		if err == nil {
			return answer, nil
		}
		if !again(err) || attempt == attempts-1 {
			return answer, told(err)
		}
		wait(attempt, err)
	}
}

// told is what a refused call says: reason, sentence and field.
func told(err error) error {
	state := status.Convert(err)
	reason, where := state.Code().String(), ""
	if name, is := names[state.Code()]; is {
		reason = name
	}
	for _, detail := range state.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			reason = info.Reason
			if field := info.Metadata["field"]; field != "" {
				where = fmt.Sprintf(" (field %s)", field)
			}
		}
	}
	return fmt.Errorf("%s: %s%s", reason, state.Message(), where)
}
