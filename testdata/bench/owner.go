package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
)

// owner owns namespaces, processes and folders for the length of a call, as a
// test would.
type owner struct {
	mu       sync.Mutex
	cleanups []func()
	errs     []error
}

// own calls f with a new owner, ends what f made, and returns what went wrong.
func own(f func(o *owner)) error {
	o := &owner{}
	o.apart(func() { f(o) })
	for {
		o.mu.Lock()
		if len(o.cleanups) == 0 {
			o.mu.Unlock()
			return errors.Join(o.errs...)
		}
		last := o.cleanups[len(o.cleanups)-1]
		o.cleanups = o.cleanups[:len(o.cleanups)-1]
		o.mu.Unlock()
		o.apart(last)
	}
}

// apart calls f on a goroutine that Fatal may end.
func (o *owner) apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (o *owner) Helper() {}

func (o *owner) Cleanup(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cleanups = append(o.cleanups, f)
}

// folderPrefix begins the names of temporary folders; the process id follows.
const folderPrefix = "shadowtap-bench-"

func (o *owner) TempDir() string {
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", folderPrefix, os.Getpid()))
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			o.add(err)
		}
	})
	return dir
}

func (o *owner) add(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errs = append(o.errs, err)
}

func (o *owner) Errorf(format string, args ...any) { o.add(fmt.Errorf(format, args...)) }

func (o *owner) Fatalf(format string, args ...any) {
	o.add(fmt.Errorf(format, args...))
	runtime.Goexit()
}

// Fatal keeps an error that is the only argument as it is.
func (o *owner) Fatal(args ...any) {
	if len(args) == 1 {
		if err, ok := args[0].(error); ok {
			o.add(err)
			runtime.Goexit()
		}
	}
	o.add(errors.New(fmt.Sprint(args...)))
	runtime.Goexit()
}

func (o *owner) Skip(args ...any) { o.Fatal(args...) }
