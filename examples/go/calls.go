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

// Statuses after which the same request, sent again, has one effect and may succeed,
// with their names as all languages print them.
var again = map[codes.Code]string{
	codes.Unavailable:       "UNAVAILABLE",
	codes.DeadlineExceeded:  "DEADLINE_EXCEEDED",
	codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
	codes.Canceled:          "CANCELLED",
}

// Beside those, statuses after which a subscription goes on from its position:
// it changes nothing, it may always ask again.
var goOn = map[codes.Code]string{
	codes.Internal: "INTERNAL",
	codes.Unknown:  "UNKNOWN",
}

// name of a status, as all languages print it.
func name(code codes.Code) string {
	for _, names := range []map[codes.Code]string{again, goOn} {
		if found, is := names[code]; is {
			return found
		}
	}
	return code.String()
}

// wait longer after every failure, and never as long as others do ("full jitter").
func wait(attempt int, why, to string) {
	most := min(longestWait, firstWait<<attempt)
	pause := rand.N(most)
	fmt.Fprintf(os.Stderr, "partner: %s, again in %.1f s at %s\n", why, pause.Seconds(), to)
	time.Sleep(pause)
}

// as says who calls, and until when.
func as(actor string, within time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-actor", actor), within)
}

// call makes one call with its deadline, and sends it again while that can help.
func call[T any](options Options, one func(context.Context) (T, error)) (T, error) {
	for attempt := 0; ; attempt++ {
		ctx, cancel := as(options.actor, callTime)
		answer, err := one(ctx)
		cancel()
		if err == nil {
			return answer, nil
		}
		why, is := again[status.Code(err)]
		if !is || attempt == attempts-1 {
			return answer, told(err)
		}
		wait(attempt, why, options.to)
	}
}

// told is what a refused call says: reason, sentence and field.
func told(err error) error {
	state := status.Convert(err)
	reason, where := name(state.Code()), ""
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
