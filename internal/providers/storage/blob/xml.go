package blob

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"lazurite.dev/internal/apierr"
)

// listed is one block of a list that is to be committed.
type listed struct {
	id   string // in base64
	from string // Committed, Uncommitted or Latest
}

func invalidXML(format string, args ...any) error {
	return apierr.New(apierr.BadRequest, "InvalidXmlDocument", "XML specified is not syntactically valid. "+format, args...)
}

// parseBlockList reads the body of Put Block List, in the order of its blocks.
func parseBlockList(raw []byte) ([]listed, error) {
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\ufeff"))))
	var out []listed
	depth, cur := 0, ""
	var text strings.Builder
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, invalidXML("It ends in the middle, or is none.")
		}
		switch x := t.(type) {
		case xml.StartElement:
			depth++
			cur = x.Name.Local
			text.Reset()
			if depth == 1 && cur != "BlockList" || depth == 2 && !slices.Contains([]string{"Committed", "Uncommitted", "Latest"}, cur) || depth > 2 {
				return nil, invalidXML("The element '%s' is not expected.", clip(cur))
			}
		case xml.CharData:
			text.Write(x)
		case xml.EndElement:
			if depth == 2 {
				if len(out) >= maxBlocks {
					return nil, apierr.New(apierr.BadRequest, "BlockListTooLong", "The block list may not contain more than 50,000 blocks.")
				}
				out = append(out, listed{strings.TrimSpace(text.String()), cur})
			}
			depth--
		case xml.Directive:
			return nil, invalidXML("Directives are not permitted.")
		}
	}
	if cur == "" {
		return nil, invalidXML("It is empty.")
	}
	return out, nil
}

type keyInfo struct {
	XMLName xml.Name `xml:"KeyInfo"`
	Start   string   `xml:"Start"`
	Expiry  string   `xml:"Expiry"`
	Tenant  string   `xml:"DelegatedUserTid"`
}

// parseKeyInfo reads the body of Get User Delegation Key.
func parseKeyInfo(raw []byte) (k keyInfo, err error) {
	if bytes.Contains(raw, []byte("<!")) {
		return k, invalidXML("Directives are not permitted.")
	}
	if err := xml.Unmarshal(bytes.TrimPrefix(raw, []byte("\ufeff")), &k); err != nil {
		return k, invalidXML("It is no KeyInfo.")
	}
	return k, nil
}

type shownBlock struct {
	Name string
	Size int64
}

type blocksBody struct {
	Block []shownBlock `xml:"Block"`
}

type blockListBody struct {
	XMLName     xml.Name    `xml:"BlockList"`
	Committed   *blocksBody `xml:"CommittedBlocks"`
	Uncommitted *blocksBody `xml:"UncommittedBlocks"`
}

func shownBlocks(list []block) *blocksBody {
	out := &blocksBody{}
	for _, b := range list {
		out.Block = append(out.Block, shownBlock{b.ID, b.Size})
	}
	return out
}

func shownWaiting(m map[string]int64) *blocksBody {
	out := &blocksBody{}
	for id, size := range m {
		out.Block = append(out.Block, shownBlock{base64.StdEncoding.EncodeToString([]byte(id)), size})
	}
	slices.SortFunc(out.Block, func(a, b shownBlock) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// meta is metadata as XML: its names are elements.
type meta map[string]string

// MarshalXML implements xml.Marshaler.
func (m meta) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	var names []string
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		if err := e.EncodeElement(m[k], xml.StartElement{Name: xml.Name{Local: k}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
