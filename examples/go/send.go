package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	common "example.com/partner/gen/pharmaloop/common/v1"
	traceability "example.com/partner/gen/pharmaloop/traceability/v1"
)

var columns = []string{"order", "lot", "site", "pseudonym", "at", "quantity", "unit"}

type row map[string]string

// A refusal says why a row, by its number from 1, was not taken.
type refusal struct {
	number                     int
	reason, field, description string
}

// progress is how far the file was sent: everything up to rows was answered, and that is on disk.
type progress struct {
	rows, taken, refused int
	rejects              int64 // bytes of the file of rejects
}

func readProgress(path, digest string) progress {
	var of string
	var p progress
	data, _ := os.ReadFile(path)
	n, _ := fmt.Sscan(string(data), &of, &p.rows, &p.taken, &p.refused, &p.rejects)
	if n != 5 || of != digest {
		return progress{}
	}
	return p
}

// dispense is the record of a row; a refusal where the row cannot be read.
func dispense(r row, actor string) (*traceability.DispenseRecorded, *refusal) {
	record := &traceability.DispenseRecorded{
		Order: r["order"], Lot: r["lot"], Site: r["site"], Pseudonym: r["pseudonym"], Source: actor,
	}
	at, err := time.Parse(time.RFC3339, r["at"])
	if err != nil {
		return nil, &refusal{0, "NOT_A_MOMENT", "at", "write it as 2026-03-12T09:30:00+08:00"}
	}
	_, offset := at.Zone()
	record.At = &common.Moment{At: timestamppb.New(at), OffsetMinutes: int32(offset / 60)}
	if r["quantity"] != "" {
		value, err := strconv.ParseFloat(r["quantity"], 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			return nil, &refusal{0, "NOT_A_NUMBER", "quantity", "write it as 28 or 7.5"}
		}
		record.Quantity = &common.Quantity{Value: value, Unit: r["unit"]}
	}
	return record, nil
}

// requestID: the same rows have the same id, in every run: a request that is sent again is known by it.
func requestID(rows []row) string {
	var lines []string
	for _, r := range rows {
		var cells []string
		for _, name := range columns {
			cells = append(cells, r[name])
		}
		lines = append(lines, strings.Join(cells, "\x1f"))
	}
	return fmt.Sprintf("dispenses-%x", sha256.Sum256([]byte(strings.Join(lines, "\x1e"))))[:42]
}

func send(connection *grpc.ClientConn, path string, options Options) (int, error) {
	if state, err := os.Stat(path); err != nil || !state.Mode().IsRegular() {
		return 2, fmt.Errorf("%s: no such file; give the path of a CSV file", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return 2, err
	}
	name := filepath.Base(path)
	rows, err := readRows(name, data)
	if err != nil {
		return 2, err
	}
	// Whom it was sent to, by whom, and what: sent to a sandbox, it is not sent to the platform.
	digest := fmt.Sprintf("%x", sha256.Sum256(append([]byte(options.to+"\n"+options.actor+"\n"), data...)))
	done := readProgress(path+".progress", digest)
	if 0 < done.rows && done.rows < len(rows) {
		fmt.Printf("%s: going on after row %d\n", name, done.rows)
	}
	rejects, err := openRejects(path+".rejects.csv", done)
	if err != nil {
		return 2, err
	}
	defer rejects.Close()
	client := traceability.NewTraceabilityServiceClient(connection)
	for done.rows < len(rows) {
		batch := rows[done.rows:min(done.rows+options.batch, len(rows))]
		refused, err := sendBatch(client, batch, done.rows, options)
		if err != nil {
			return 2, err
		}
		// What was refused first, then that these rows are done: a kill in between loses nothing.
		size, err := writeRejects(rejects, refused, rows)
		if err != nil {
			return 2, err
		}
		done.rows += len(batch)
		done.taken += len(batch) - len(refused)
		done.refused += len(refused)
		done.rejects = size
		line := fmt.Sprintln(digest, done.rows, done.taken, done.refused, done.rejects)
		if err := writeWhole(path+".progress", []byte(line)); err != nil {
			return 2, err
		}
	}
	code, where := 0, ""
	if done.refused > 0 {
		code, where = 1, fmt.Sprintf(" (%s.rejects.csv)", name)
	}
	fmt.Printf("%s: %d rows, %d taken, %d refused%s\n", name, done.rows, done.taken, done.refused, where)
	return code, nil
}

// sendBatch sends the rows that come after so many others; it answers those that were not taken.
func sendBatch(client traceability.TraceabilityServiceClient, batch []row, before int, options Options) ([]refusal, error) {
	request := &traceability.RecordDispenseRequest{RequestId: requestID(batch)}
	var sent []int
	var refused []refusal
	for i, r := range batch {
		record, no := dispense(r, options.actor)
		if no != nil {
			no.number = before + i + 1
			refused = append(refused, *no)
			continue
		}
		request.Dispenses = append(request.Dispenses, record)
		sent = append(sent, before+i+1)
	}
	if len(sent) == 0 {
		return refused, nil
	}
	answer, err := call(options, func(ctx context.Context) (*traceability.RecordDispenseResponse, error) {
		return client.RecordDispense(ctx, request)
	})
	if err != nil {
		return nil, err
	}
	for _, no := range answer.Receipt.Refused {
		_, field, _ := strings.Cut(no.Field, "].")
		refused = append(refused, refusal{sent[no.Index], no.Reason, field, no.Description})
	}
	sort.Slice(refused, func(i, j int) bool { return refused[i].number < refused[j].number })
	return refused, nil
}

// readRows answers the rows of the file; an error names the line that breaks a rule, and nothing of the file is sent.
func readRows(name string, data []byte) ([]row, error) {
	if line, is := notText(data); is {
		return nil, fmt.Errorf("%s, line %d: not UTF-8; save the file as UTF-8, and send it again", name, line)
	}
	first := "the first line names " + strings.Join(columns, ",")
	reader := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	reader.FieldsPerRecord = -1 // counted below, in our words
	head, line, err := cells(reader, name)
	if err == io.EOF {
		return nil, fmt.Errorf("%s, line 1: the file is empty; %s", name, first)
	}
	if err != nil {
		return nil, err
	}
	at, missing, twice := map[string]int{}, []string{}, []string{}
	for _, column := range columns {
		at[column] = slices.Index(head, column)
		if at[column] < 0 {
			missing = append(missing, column)
		} else if slices.Contains(head[at[column]+1:], column) {
			twice = append(twice, column)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s, line %d: no column %s; %s", name, line, strings.Join(missing, ", "), first)
	}
	if len(twice) > 0 {
		return nil, fmt.Errorf("%s, line %d: column %s twice; %s, each once", name, line, strings.Join(twice, ", "), first)
	}
	var rows []row
	for {
		found, line, err := cells(reader, name)
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		if len(found) != len(head) {
			return nil, fmt.Errorf("%s, line %d: %d cells where the first line has %d; mend the row, and send the file again",
				name, line, len(found), len(head))
		}
		if strings.Join(found, "") == "" {
			return nil, fmt.Errorf("%s, line %d: every cell is empty; remove the row, and send the file again", name, line)
		}
		r := row{}
		for _, column := range columns {
			r[column] = found[at[column]]
		}
		rows = append(rows, r)
	}
}

// cells of the next row, and the line in the file that it begins at; blank lines are passed over.
func cells(reader *csv.Reader, name string) ([]string, int, error) {
	found, err := reader.Read()
	var broken *csv.ParseError
	if errors.As(err, &broken) {
		return nil, 0, fmt.Errorf("%s, line %d: a quoted cell is not closed, or goes on behind its quotation mark; "+
			"write a mark inside a cell twice, and send the file again", name, broken.StartLine)
	}
	if err != nil {
		return nil, 0, err
	}
	line, _ := reader.FieldPos(0)
	for i := range found {
		found[i] = strings.TrimSpace(found[i])
	}
	return found, line, nil
}

// notText answers the first line that is not UTF-8, where there is one.
func notText(data []byte) (int, bool) {
	for at := 0; at < len(data); {
		letter, size := utf8.DecodeRune(data[at:])
		if letter == utf8.RuneError && size == 1 {
			return bytes.Count(data[:at], []byte("\n")) + 1, true
		}
		at += size
	}
	return 0, false
}

// openRejects opens the rejects as they were when the progress was written: what came later is written again.
func openRejects(path string, done progress) (*os.File, error) {
	if _, err := os.Stat(path); err == nil && done.rows > 0 {
		if err := os.Truncate(path, done.rejects); err != nil {
			return nil, err
		}
	} else {
		head := append([]string{"row", "reason", "field", "description"}, columns...)
		if err := os.WriteFile(path, []byte(strings.Join(head, ",")+"\n"), 0o644); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
}

func writeRejects(file *os.File, refused []refusal, rows []row) (int64, error) {
	writer := csv.NewWriter(file)
	for _, no := range refused {
		cells := []string{strconv.Itoa(no.number), no.reason, no.field, no.description}
		for _, column := range columns {
			cells = append(cells, rows[no.number-1][column])
		}
		writer.Write(cells)
	}
	writer.Flush()
	if err := writer.Error(); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	state, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return state.Size(), nil
}
