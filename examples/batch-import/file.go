package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// header is the first line of a file of customers.
var header = []string{"id", "email", "cents"}

// eachRow calls do for each row of a file, counted from 1, until do returns
// false.
func eachRow(file string, do func(row int, fields []string) (more bool, err error)) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	in := csv.NewReader(bufio.NewReaderSize(f, 1<<20))
	in.ReuseRecord = true
	in.FieldsPerRecord = len(header)
	if _, err := in.Read(); err != nil {
		return fmt.Errorf("%s: header: %w", file, err)
	}
	for row := 1; ; row++ {
		fields, err := in.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if more, err := do(row, fields); err != nil || !more {
			return err
		}
	}
}

func countRows(file string) (n int, err error) {
	err = eachRow(file, func(row int, _ []string) (bool, error) {
		n = row
		return true, nil
	})
	return n, err
}

func writeSample(file string, rows int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	out := csv.NewWriter(bufio.NewWriterSize(f, 1<<20))
	_ = out.Write(header) // Flush returns the first error
	for i := range rows {
		id := fmt.Sprintf("customer-%07d", i+1)
		_ = out.Write([]string{id, id + "@example.com", strconv.Itoa(i % 10_000)})
	}
	out.Flush()
	return errors.Join(out.Error(), f.Close())
}
