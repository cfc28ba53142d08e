package waiting

import "testing"

// TestRanges: one that is told of is named until a look finds nothing, unless it was told of again
// behind that look.
func TestRanges(t *testing.T) {
	var s Ranges
	if _, may := s.Has(3); may {
		t.Error("it names a range before it is told of any")
	}
	s.None(3, 0)
	s.Add(3)
	before, _ := s.Has(3)
	s.Add(3)
	s.Add(4)
	s.None(3, before)
	mark, may := s.Has(3)
	if !may {
		t.Error("it forgot a range of which rows were written since the look")
	}
	s.None(3, mark)
	if _, may := s.Has(3); may {
		t.Error("it names a range of which no rows were found")
	}
	s.Add(3)
	s.None(3, mark)
	if _, may := s.Has(3); !may {
		t.Error("it forgot a range that was told of again, for a look from before")
	}
	if _, may := s.Has(4); !may {
		t.Error("it forgot another range")
	}
}
