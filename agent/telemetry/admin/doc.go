// Package admin is the client's side of the admin interface and the words that
// both sides use: it finds the socket of an instance and asks it for status,
// off and on, and the log level.
package admin
