// Judges a history of registers by Porcupine, for the comparison in bench/porcupine.py.
//
// Standard input holds six int64 (little endian) for each op: key, kind (0 read, 1 write, 2 compare-and-set), the value
// that stood there, the one that was written, and the instants of its call and its answer. -1 is no value. Standard
// output is one line: the verdict, and the processor seconds that judging took, without reading.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	fields  = 6
	read    = 0
	write   = 1
	nothing = int64(-1)
	limit   = 10 * time.Minute
)

type op struct{ key, kind, stood, value int64 }

func main() {
	operations, err := history(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	before := processorSeconds()
	verdict := porcupine.CheckOperationsTimeout(registers(), operations, limit)
	fmt.Printf("%s %.6f\n", verdict, processorSeconds()-before)
}

func history(from io.Reader) ([]porcupine.Operation, error) {
	raw, err := io.ReadAll(from)
	if err != nil {
		return nil, err
	}
	operations := make([]porcupine.Operation, 0, len(raw)/8/fields)
	for at := 0; at+8*fields <= len(raw); at += 8 * fields {
		var v [fields]int64
		for n := range v {
			v[n] = int64(binary.LittleEndian.Uint64(raw[at+8*n:]))
		}
		operations = append(operations, porcupine.Operation{Input: op{v[0], v[1], v[2], v[3]}, Call: v[4], Return: v[5]})
	}
	return operations, nil
}

func registers() porcupine.Model {
	return porcupine.Model{
		Partition: byKey,
		Init:      func() interface{} { return nothing },
		Step: func(state, input, _ interface{}) (bool, interface{}) {
			one := input.(op)
			switch one.kind {
			case read:
				return state == one.stood, state
			case write:
				return true, one.value
			default:
				return state == one.stood, one.value
			}
		},
	}
}

func byKey(operations []porcupine.Operation) [][]porcupine.Operation {
	parts := map[int64][]porcupine.Operation{}
	for _, one := range operations {
		key := one.Input.(op).key
		parts[key] = append(parts[key], one)
	}
	found := make([][]porcupine.Operation, 0, len(parts))
	for _, part := range parts {
		found = append(found, part)
	}
	return found
}

func processorSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}
