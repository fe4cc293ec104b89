package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// printAgent prints what the agent says of itself.
func printAgent(w io.Writer, raw json.RawMessage) {
	var a struct {
		Interfaces  []struct{ Name, Hook, Role, State string }
		Experiments []struct {
			Name, Candidate, Sample, Paused, Breaker string
			Routes                                   []string
			Ended                                    bool
			Control                                  string
			ControlShare                             string `json:"control_share"`
			ControlBreaker                           string `json:"control_breaker"`
		}
		Off string
	}
	if len(raw) == 0 || json.Unmarshal(raw, &a) != nil {
		return
	}
	for _, i := range a.Interfaces {
		fmt.Fprintf(w, "tap         %s %s (%s): %s\n", i.Name, i.Hook, i.Role, i.State)
	}
	for _, e := range a.Experiments {
		state := "replays"
		switch {
		case e.Ended:
			state = "ended"
		case e.Paused != "":
			state = "paused: " + e.Paused
		case e.Breaker == "open":
			state = "breaker open: the candidate fails"
		}
		fmt.Fprintf(w, "experiment  %s: %s of %s to %s, %s\n", e.Name, e.Sample, strings.Join(e.Routes, " "), e.Candidate, state)
		if e.Control != "" {
			state := "asked"
			if e.ControlBreaker == "open" {
				state = "breaker open: the control fails"
			}
			fmt.Fprintf(w, "control     %s: %s of these to %s, %s\n", e.Name, e.ControlShare, e.Control, state)
		}
	}
	fmt.Fprintln(w)
}
