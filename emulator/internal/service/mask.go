package service

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// merge copies to dst the fields of src that the mask names, and clears
// those that are named but not set. Paths may lead to whole messages or
// into them, in either spelling. Output-only fields are skipped, as they
// are ignored wherever else they are sent (docs/cloud-tasks.md#3.2). An empty mask
// names every field.
func merge(dst, src proto.Message, mask *fieldmaskpb.FieldMask, outputOnly map[string]bool) error {
	d, s := dst.ProtoReflect(), src.ProtoReflect()
	paths := mask.GetPaths()
	if len(paths) == 0 || len(paths) == 1 && paths[0] == "*" {
		paths = nil
		for i := range d.Descriptor().Fields().Len() {
			paths = append(paths, string(d.Descriptor().Fields().Get(i).Name()))
		}
	}
	for _, path := range paths {
		if err := mergePath(d, s, path, outputOnly); err != nil {
			return err
		}
	}
	return nil
}

func mergePath(d, s protoreflect.Message, path string, outputOnly map[string]bool) error {
	parts := strings.Split(path, ".")
	canonical := make([]string, 0, len(parts))
	for i, part := range parts {
		fd := field(d.Descriptor(), part)
		if fd == nil {
			return invalid("Invalid field path %q in the update mask.", path)
		}
		canonical = append(canonical, string(fd.Name()))
		if outputOnly[strings.Join(canonical, ".")] {
			return nil
		}
		if i == len(parts)-1 {
			if s.Has(fd) {
				d.Set(fd, s.Get(fd))
			} else {
				d.Clear(fd)
			}
			return nil
		}
		if fd.Message() == nil || fd.IsList() || fd.IsMap() {
			return invalid("Invalid field path %q in the update mask.", path)
		}
		if !s.Has(fd) && !d.Has(fd) {
			return nil // nothing to clear in a message that is not there
		}
		d, s = d.Mutable(fd).Message(), s.Get(fd).Message()
	}
	return nil
}

func field(m protoreflect.MessageDescriptor, name string) protoreflect.FieldDescriptor {
	if fd := m.Fields().ByName(protoreflect.Name(name)); fd != nil {
		return fd
	}
	return m.Fields().ByJSONName(name)
}
