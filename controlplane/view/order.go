package view

import "slices"

// order keeps the heads of each kind in the order of listings: by namespace, then name without case.
type order map[string][]headID

// add puts heads in that aren't there yet. ids is sorted here.
func (o order) add(ids []headID) {
	slices.SortFunc(ids, compareIDs)
	for len(ids) > 0 {
		kind := ids[0].kind
		n := slices.IndexFunc(ids, func(id headID) bool { return id.kind != kind })
		if n < 0 {
			n = len(ids)
		}
		o[kind] = merged(o[kind], ids[:n])
		ids = ids[n:]
	}
}

// merged merges two sorted lists without common members. One new member costs a search and a move of what is behind it.
func merged(list, added []headID) []headID {
	if len(added) == 1 {
		at, _ := slices.BinarySearchFunc(list, added[0], compareIDs)
		return slices.Insert(list, at, added[0])
	}
	out := make([]headID, 0, len(list)+len(added))
	for len(list) > 0 && len(added) > 0 {
		if compareIDs(list[0], added[0]) < 0 {
			out, list = append(out, list[0]), list[1:]
		} else {
			out, added = append(out, added[0]), added[1:]
		}
	}
	return append(append(out, list...), added...)
}

func (o order) remove(id headID) {
	if at, ok := slices.BinarySearchFunc(o[id.kind], id, compareIDs); ok {
		o[id.kind] = slices.Delete(o[id.kind], at, at+1)
	}
}

// Page bounds a listing: the heads of a namespace ("": of all) after the one named by AfterNamespace and AfterName, which
// need not exist ("": from the start), at most Limit (0: all).
type Page struct {
	Namespace                 string
	AfterNamespace, AfterName string
	Limit                     int
}

// page gives the heads of a kind that a page may hold, without regard to its limit.
func (o order) page(kind string, p Page) []headID {
	list := o[kind]
	if p.Namespace != "" {
		from, _ := slices.BinarySearchFunc(list, headID{kind: kind, namespace: p.Namespace}, compareIDs)
		list = list[from:]
		// No name is below a namespace followed by the least byte.
		to, _ := slices.BinarySearchFunc(list, headID{kind: kind, namespace: p.Namespace + "\x00"}, compareIDs)
		list = list[:to]
	}
	if p.AfterNamespace != "" || p.AfterName != "" {
		at, found := slices.BinarySearchFunc(list, idOf(kind, p.AfterNamespace, p.AfterName), compareIDs)
		if found {
			at++
		}
		list = list[at:]
	}
	return list
}
