// Package config reads the one configuration file and the environment.
//
// In: a YAML file (or none), the process's environment, and what the command
// line sets on the struct afterwards. Out: a Config in which every key has its
// effective value, and for every mistake an Error that says where it was
// written (file, line and column, or the variable, or the flag), which key it
// is about and what to write instead.
//
// Reading is strict: a key that is not known, a key that is written twice, a
// value of another type, a number without its unit are errors. Nothing is
// guessed. Reading and checking are two steps, so that flags come between them:
// Load or Parse says what is wrong with the writing, Check what is wrong with
// the meaning.
//
// # Environment
//
// SHADOWTAP_CONFIG names the file. SHADOWTAP__ and a path with two underscores
// between the levels sets a scalar, in upper or lower case; an element of a
// list goes by its name or its index:
//
//	SHADOWTAP__EXPERIMENTS__users__SAMPLE__RATE=10%
//	SHADOWTAP__CAPTURE__INTERFACES=eth0,eth1
//	SHADOWTAP__SINKS__KAFKA__BOOTSTRAP_SERVERS=kafka:9092
//
// A list of plain values may be given whole, with commas, except regular
// expressions. In names an underscore also stands for "-" and ".". Variables are
// applied in the order of their paths, after the file.
//
// # Secrets
//
// Kafka properties and header values may be secret. They are in the struct,
// where the sinks need them; String, the fmt verbs, slog, JSON, Revision and
// every error leave them out.
//
// # What it does not do
//
// It opens no file that the configuration names, resolves no host, and knows
// neither the librdkafka properties (publish does) nor which path patterns
// conflict (sample does): they check their part, and Config.At gives them the
// position of a key for their errors.
package config
