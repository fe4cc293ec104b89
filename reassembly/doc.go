// Package reassembly turns TCP segments into the ordered bytes of each
// direction of a flow, and says where bytes were never seen.
package reassembly
