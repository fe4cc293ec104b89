package verdict

import (
	"fmt"
	"time"
)

// Time is a moment in microseconds since the Unix epoch. In JSON it is RFC 3339
// in UTC with microseconds.
type Time int64

const micros = "2006-01-02T15:04:05.000000Z"

// TimeOf is t to the microsecond.
func TimeOf(t time.Time) Time { return Time(t.UnixMicro()) }

// Time is t in UTC.
func (t Time) Time() time.Time { return time.UnixMicro(int64(t)).UTC() }

// String is the form that t has in records.
func (t Time) String() string { return t.Time().Format(micros) }

// MarshalText is String. A year that RFC 3339 can't spell is an error.
func (t Time) MarshalText() ([]byte, error) {
	if y := t.Time().Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("year %d has no RFC 3339 form", y)
	}
	return t.Time().AppendFormat(nil, micros), nil
}

// UnmarshalText reads RFC 3339.
func (t *Time) UnmarshalText(b []byte) error {
	v, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return err
	}
	*t = TimeOf(v)
	return nil
}
