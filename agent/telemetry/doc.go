// Package telemetry shows what the other rooms counted: the ledger with its
// sums, metrics, health, and the admin interface.
//
// It knows no room. The agent hands in functions that give counts, gauges and
// checks; telemetry gives them names, sums them, says where a line of the
// ledger does not balance, and serves all of it:
//
//   - on the management address: /livez, /readyz, /healthz and /metrics, which
//     show nothing about the traffic but numbers;
//   - on the Unix admin socket (mode 0600), and on the management address only
//     for who shows the token: status, off and on, the log level, profiles.
//
// It does not keep counters of its own and changes none.
package telemetry
