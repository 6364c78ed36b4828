package openai

import "bytes"

// What an estimate counts where nothing is said. Source: Azure OpenAI quotas,
// "Understanding rate limits": the text of the prompt, max_tokens and best_of.
const (
	bytesPerToken = 4
	defaultOutput = 16  // the API's default of max_tokens
	imageTokens   = 765 // of a picture of 1024 by 1024 in high detail
)

// estimate is how many tokens a request may need: its text, of which a token is
// four bytes, pictures in it counted by number, and what it lets be written. Only
// the value of a url or an image_url can be a picture: in a message the same is
// text.
func estimate(body []byte, output, n int) int {
	text, images := len(body), 0
	for rest := body; ; {
		i := bytes.Index(rest, []byte(`"data:image/`))
		if i < 0 {
			break
		}
		before := rest[:i]
		rest = rest[i+1:]
		end := bytes.IndexByte(rest, '"')
		if end < 0 {
			break
		}
		if ofURL(before) && bytes.Contains(rest[:min(end, mostType)], []byte(";base64,")) {
			text -= end
			images++
		}
		rest = rest[end+1:]
	}
	return promptTokens(text) + images*imageTokens + output*max(1, n)
}

// mostType is how many bytes the type of a picture takes at most.
const mostType = 64

// ofURL reports whether what comes after before is the value of a member that is
// called url or image_url.
func ofURL(before []byte) bool {
	name, ok := bytes.CutSuffix(bytes.TrimRight(before, " \t\r\n"), []byte(":"))
	name = bytes.TrimRight(name, " \t\r\n")
	return ok && (bytes.HasSuffix(name, []byte(`"url"`)) || bytes.HasSuffix(name, []byte(`"image_url"`)))
}

func promptTokens(bytes int) int { return max(1, bytes/bytesPerToken) }
