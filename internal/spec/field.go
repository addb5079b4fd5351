package spec

// Type is the shape of a field's value in a file.
type Type string

// The types.
const (
	TypeString   Type = "string"
	TypeInteger  Type = "integer"
	TypeNumber   Type = "number"
	TypeBoolean  Type = "boolean"
	TypeDuration Type = "duration" // a Go duration such as "30s"
	TypeValue    Type = "value"    // a string, or {"credentialRef": "name"}
	TypeObject   Type = "object"
	TypeMap      Type = "map" // an object whose names are free
	TypeList     Type = "list"
	TypeAny      Type = "any" // any JSON
)

// Effect says from when a changed field counts.
type Effect string

// The effects.
const (
	OnRequest Effect = "next request" // hot: requests begun before keep the old value
	OnCall    Effect = "next call"    // hot: counts inside running requests too
	OnApply   Effect = "at apply"     // the control plane's own; no instance changes its doing
	OnRestart Effect = "restart"
)

// Field is one row of the table from which unknown fields, types, ranges, defaults, JSON Schemas and docs/field-effects.md come.
type Field struct {
	Name        string
	Type        Type
	Description string
	Effect      Effect
	Required    bool
	Default     string // JSON text; "" if there is none
	Min, Max    *float64
	Enum        []string
	Rule        Rule // of a string
	MaxItems    int  // of a list or map; 0: no limit
	Fields      []Field
	Short       string // of an object: it may also be written as a text, the value of this field alone
	Switch      bool   // of an object: true and false may stand in its place
	Item        *Field // of a list or map
	Keys        Rule   // of a map's names
}

// Rule is a named rule for a text.
type Rule string

// The rules.
const (
	RuleNone      Rule = ""
	RuleNonEmpty  Rule = "not empty"
	RuleLine      Rule = "not empty, without line breaks and other control characters"
	RuleName      Rule = "a name: letters, digits, \"-\", \"_\" and \".\", beginning and ending with a letter or digit, at most 64"
	RulePromptKey Rule = "a prompt key: names joined by \"/\", at most 64 characters"
	RuleSemver    Rule = "a semantic version such as 3.0.11"
	RuleVersion   Rule = "a version: letters, digits, \"-\", \"_\", \".\" and \"+\", at most 64"
	RuleURL       Rule = "an http or https address without user and password"
	RuleHeader    Rule = "an HTTP header name"
	RuleVariable  Rule = "a variable name: letters, digits, \"_\", \"-\" and \".\", beginning with a letter or \"_\""
	RuleDigest    Rule = "a SHA-256 in lower hex"
	RuleOrigin    Rule = "an origin: http:// or https://, a host and perhaps a port, such as https://api.example.com"
	RulePages     Rule = "\"*\", or an origin: http:// or https://, a host and perhaps a port, such as https://chat.example.com"
	RuleTool      Rule = "server/tool, or a server's name for all its tools"
	RuleRedis     Rule = "host:port, redis://host:port/db or rediss://host:port/db (TLS), without user and password"
)

// The limits of files and lists.
const (
	MaxServers    = 64
	MaxPartners   = 64
	MaxFallbacks  = 8
	MaxDepth      = 32
	MaxFileBytes  = 256 << 10
	MaxBodyBytes  = 64 << 20
	MaxInteger    = 1 << 53 // RFC 8785 would change greater ones
	maxName       = 64
	maxListLength = 256
)

func str(name string, e Effect, desc string) Field {
	return Field{Name: name, Type: TypeString, Effect: e, Description: desc}
}

func (f Field) required() Field       { f.Required = true; return f }
func (f Field) rule(r Rule) Field     { f.Rule = r; return f }
func (f Field) def(json string) Field { f.Default = json; return f }
func (f Field) min(v float64) Field   { f.Min = new(v); return f }
func (f Field) between(lo, hi float64) Field {
	f.Min, f.Max = new(lo), new(hi)
	return f
}

func (f Field) oneOf(values ...string) Field {
	f.Enum = values
	return f
}

func typed(name string, t Type, e Effect, desc string) Field {
	return Field{Name: name, Type: t, Effect: e, Description: desc}
}

func object(name string, e Effect, desc string, fields ...Field) Field {
	return Field{Name: name, Type: TypeObject, Effect: e, Description: desc, Fields: fields}
}

func list(name string, e Effect, desc string, most int, item Field) Field {
	item.Effect = e
	return Field{Name: name, Type: TypeList, Effect: e, Description: desc, MaxItems: most, Item: &item}
}

func mapping(name string, e Effect, desc string, keys Rule, item Field) Field {
	item.Effect = e
	return Field{Name: name, Type: TypeMap, Effect: e, Description: desc, MaxItems: maxListLength, Keys: keys, Item: &item}
}

// names gives the names of fields.
func names(fields []Field) []string {
	out := make([]string, len(fields))
	for i := range fields {
		out[i] = fields[i].Name
	}
	return out
}

func find(fields []Field, name string) (Field, bool) {
	for i := range fields {
		if fields[i].Name == name {
			return fields[i], true
		}
	}
	return Field{}, false
}
