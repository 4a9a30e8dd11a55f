// A partner's program: send dispenses from a CSV file, watch for held lots, read a lot's dossier.
//
//	partner send FILE.csv --to HOST:PORT [--actor NAME] [--batch ROWS]
//	partner watch --to HOST:PORT [--state FILE] [--product KEY] [--count LOTS]
//	partner dossier LOT --to HOST:PORT
//
// Exit status: 0 done, 1 some rows were refused, 2 it could not be done.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Options are what the command line says.
type Options struct {
	to, actor, state, product string
	batch, count              int
}

// whole is the number that an option gives.
func whole(option, given string, least int) (int, error) {
	number, err := strconv.Atoi(given)
	if err != nil || number < least || strings.HasPrefix(given, "+") {
		return 0, fmt.Errorf("%s %s: no whole number from %d on; give one", option, given, least)
	}
	return number, nil
}

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "partner:", err)
	}
	os.Exit(code)
}

func run(arguments []string) (int, error) {
	usage := fmt.Errorf("say send FILE, watch or dossier LOT, and --to HOST:PORT")
	if len(arguments) == 0 {
		return 2, usage
	}
	if slices.Contains([]string{"-h", "-help", "--help"}, arguments[0]) {
		fmt.Println("partner send FILE.csv, partner watch, or partner dossier LOT; each with -h lists its flags")
		return 0, nil
	}
	command, arguments, subject := arguments[0], arguments[1:], ""
	if command != "watch" && len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		subject, arguments = arguments[0], arguments[1:]
	}
	var options Options
	var batch, count string
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // main says what is wrong
	flags.StringVar(&options.to, "to", "", "the service's `HOST:PORT`")
	flags.StringVar(&options.actor, "actor", "partner", "the `NAME` under which it calls")
	flags.StringVar(&batch, "batch", "500", "of send: `ROWS` that one request tells")
	flags.StringVar(&options.state, "state", "watch.position", "of watch: the `FILE` that keeps how far it heard")
	flags.StringVar(&options.product, "product", "", "of watch: the `KEY` of a product, to hear of its lots alone")
	flags.StringVar(&count, "count", "0", "of watch: end after so many `LOTS`; 0 stays")
	if err := flags.Parse(arguments); errors.Is(err, flag.ErrHelp) {
		fmt.Println("partner send FILE.csv, partner watch, or partner dossier LOT, with:")
		flags.VisitAll(func(one *flag.Flag) {
			value, tells := flag.UnquoteUsage(one)
			fmt.Printf("  %-22s %s", "--"+one.Name+" "+value, tells)
			if one.DefValue != "" {
				fmt.Printf(" [%s]", one.DefValue)
			}
			fmt.Println()
		})
		return 0, nil
	} else if err != nil {
		return 2, err
	}
	if options.to == "" || (subject == "") != (command == "watch") {
		return 2, usage
	}
	var err error
	if options.batch, err = whole("--batch", batch, 1); err != nil {
		return 2, err
	}
	if options.count, err = whole("--count", count, 0); err != nil {
		return 2, err
	}
	connection, err := connect(options.to)
	if err != nil {
		return 2, err
	}
	defer connection.Close()
	switch command {
	case "send":
		return send(connection, subject, options)
	case "watch":
		return watch(connection, options)
	case "dossier":
		return dossier(connection, subject, options)
	}
	return 2, usage
}

// connect asks, while calls stand open, whether anybody is there: a connection may be forgotten on the way.
func connect(to string) (*grpc.ClientConn, error) {
	alive := keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}
	return grpc.NewClient(to,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithKeepaliveParams(alive))
}

// writeWhole replaces a file in one step: after a crash it is the old one or the new one.
func writeWhole(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err = file.Write(data); err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
