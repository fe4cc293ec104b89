package sample

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// grpcMethods are the gRPC methods that may be replayed: whole paths, and paths
// up to the last slash for all methods of a service.
type grpcMethods map[string]struct{}

// newGRPCMethods checks a list; the error comes with the index of its element.
func newGRPCMethods(list []string) (m grpcMethods, at int, err error) {
	for i, s := range list {
		if err := checkGRPC(s); err != nil {
			return nil, i, err
		}
		if m == nil {
			m = make(grpcMethods, len(list))
		}
		m[strings.TrimSuffix(s, "*")] = struct{}{}
	}
	return m, 0, nil
}

// has says whether the path, as captured, is that of a named method. It
// allocates nothing.
func (m grpcMethods) has(path []byte) bool {
	if _, ok := m[string(path)]; ok {
		return path[len(path)-1] != '/'
	}
	slash := bytes.LastIndexByte(path, '/')
	if slash < 0 || slash == len(path)-1 {
		return false
	}
	_, ok := m[string(path[:slash+1])]
	return ok
}

// checkGRPC allows /package.Service/Method and /package.Service/*.
func checkGRPC(s string) error {
	service, method, ok := strings.Cut(strings.TrimPrefix(s, "/"), "/")
	switch {
	case s == "":
		return errors.New("empty method")
	case s[0] != '/' || !ok || !grpcName(service) || method != "*" && !grpcName(method):
		return fmt.Errorf("%q is no gRPC method: write /package.Service/Method, or /package.Service/* for all of a service", s)
	}
	return nil
}

// grpcName is wider than protobuf's names: other definition languages have
// dashes.
func grpcName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return s != "" && s[0] != '.' && s[len(s)-1] != '.'
}
