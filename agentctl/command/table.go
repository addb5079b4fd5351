package command

import (
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
)

// table is columns of text. Columns from `from` on, if it isn't 0, are shown by -o wide only.
type table struct {
	head  []string
	rows  []row
	from  int
	empty string // said instead of a table without rows

	wide, noHead, colour bool
}

type row struct {
	name  string // what -o name prints
	cells []string
}

func (t *table) add(name string, cells ...string) {
	t.rows = append(t.rows, row{name: name, cells: cells})
}

// write prints the columns as wide as they must be, measured as a terminal shows them.
func (t table) write(w io.Writer) error {
	n := len(t.head)
	if t.from > 0 && !t.wide {
		n = t.from
	}
	lines := make([][]string, 0, len(t.rows)+1)
	if !t.noHead {
		lines = append(lines, t.head[:n])
	}
	for _, r := range t.rows {
		cells := make([]string, n)
		for i, cell := range r.cells[:n] {
			cells[i] = oneLine(cell)
		}
		lines = append(lines, cells)
	}
	widths := make([]int, n)
	for _, l := range lines {
		for i, cell := range l {
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	var b strings.Builder
	for k, l := range lines {
		for i, cell := range l {
			text := cell
			if t.colour {
				text = paint(cell, k == 0 && !t.noHead)
			}
			b.WriteString(text)
			if i < n-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-lipgloss.Width(cell)+3))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// paint colours a header, and the words of the closed sets; all else stays.
func paint(cell string, head bool) string {
	style := lipgloss.NewStyle()
	switch {
	case head:
		return style.Bold(true).Render(cell)
	case cell == "":
		return cell
	}
	switch cell {
	case "Synced", "APPLIED", "stable", "created", "updated":
		return style.Foreground(lipgloss.Green).Render(cell)
	case "Progressing", "PENDING", "RECEIVED", "Unproven", "Degraded", "DEGRADED", "STALE", "Held", "candidate":
		return style.Foreground(lipgloss.Yellow).Render(cell)
	case "Rejected", "REJECTED", "Offline", "OFFLINE", "Deleted", "refused", "rolled_back":
		return style.Foreground(lipgloss.Red).Render(cell)
	default:
		return cell
	}
}

// ago gives a time as people read it.
func (c *cli) ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return short(c.now().Sub(t)) + " ago"
}

// until gives a coming time as people read it.
func (c *cli) until(t time.Time) string {
	left := t.Sub(c.now())
	if left <= 0 {
		return "expired"
	}
	return "in " + short(left)
}

// short gives a duration in its largest unit.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return "0s"
	case d < 2*time.Minute:
		return d.Truncate(time.Second).String()
	case d < 2*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Truncate(time.Hour).String(), "0m0s")
	default:
		return itoa(int64(d/(24*time.Hour))) + "d"
	}
}

// oneLine shows what doesn't print as an escape. What stands in a table or a line came from others: it must neither begin a line that
// looks like the server's, nor tell the terminal what to do.
func oneLine(s string) string { return shown(s, unicode.IsPrint) }

// lines is oneLine for text that may have lines of its own.
func lines(s string) string {
	return shown(s, func(r rune) bool { return r == '\n' || r == '\t' || unicode.IsPrint(r) })
}

// prose is lines for text in people's languages, which have more spaces than one, and joiners.
func prose(s string) string {
	return shown(s, func(r rune) bool {
		return r == '\n' || r == '\t' || r == '\u200c' || r == '\u200d' || unicode.IsPrint(r) || unicode.Is(unicode.Zs, r)
	})
}

func shown(s string, prints func(rune) bool) string {
	s = strings.ToValidUTF8(s, "\ufffd") // a lone byte may be a control character to a terminal that reads no UTF-8
	if !strings.ContainsFunc(s, func(r rune) bool { return !prints(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if prints(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// dash stands for nothing in a table.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
