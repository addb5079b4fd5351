package view

import (
	"reflect"
	"testing"
	"time"
)

// TestClonesShareNothing fills every field of a record by reflection and looks for memory that the clone shares.
func TestClonesShareNothing(t *testing.T) {
	check(t, "agent", cloneAgent)
	check(t, "prompt", clonePrompt)
	check(t, "mcp", cloneMCP)
	check(t, "credential", cloneCredential)
}

func check[T any](t *testing.T, name string, clone func(T) T) {
	t.Helper()
	var original T
	fill(reflect.ValueOf(&original).Elem())
	c := clone(original)
	if !reflect.DeepEqual(original, c) {
		t.Errorf("%s: clone differs", name)
	}
	shared(t, name, reflect.ValueOf(original), reflect.ValueOf(c))
}

func fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 4))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(f)
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Int64, reflect.Int:
		v.SetInt(7)
	default: // left as it is
	}
}

func shared(t *testing.T, path string, a, b reflect.Value) {
	t.Helper()
	if a.Type() == reflect.TypeFor[time.Time]() {
		return
	}
	same := func() bool {
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
			return true
		}
		return false
	}
	switch a.Kind() {
	case reflect.Pointer:
		if !same() {
			shared(t, path+".*", a.Elem(), b.Elem())
		}
	case reflect.Slice:
		if !same() {
			shared(t, path+"[]", a.Index(0), b.Index(0))
		}
	case reflect.Map:
		if !same() {
			key := a.MapKeys()[0]
			shared(t, path+"{}", a.MapIndex(key), b.MapIndex(key))
		}
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	default: // a value of its own
	}
}
