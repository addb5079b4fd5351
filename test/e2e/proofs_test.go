package e2e

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/pki"
)

// fakeKubernetesAPI stands in for a Kubernetes API server: it knows one service account token, for one audience.
func fakeKubernetesAPI(t *testing.T, token, user, reviewer string) *httptest.Server {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			APIVersion string         `json:"apiVersion"`
			Kind       string         `json:"kind"`
			Spec       map[string]any `json:"spec"`
			Status     map[string]any `json:"status"`
		}
		if r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Authorization") != "Bearer "+reviewer {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Status = map[string]any{"authenticated": false, "error": "unknown token"}
		if review.Spec["token"] == token {
			review.Status = map[string]any{"authenticated": true, "audiences": []string{"agentry"}, "user": map[string]string{"username": user}}
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func pemFile(t *testing.T, dir, name string, certs ...*x509.Certificate) string {
	t.Helper()
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	path := filepath.Join(dir, name)
	write(t, path, b)
	return path
}

// Beside join tokens, an instance is believed by a service account token of Kubernetes or a certificate of another authority that the
// control plane was told of; without the one or the other it gets nothing.
func TestInstancesJoinByOtherProofs(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	if err := env.UseCA(); err != nil {
		t.Fatal(err)
	}
	company, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iat": %d}`, time.Now().Unix()))
	projected := "e30." + claims + ".c2ln"
	kube := fakeKubernetesAPI(t, projected, "system:serviceaccount:default:helper", "reviewer")
	reviewer := filepath.Join(env.Dir, "reviewer")
	write(t, reviewer, []byte("reviewer"))
	w := worldIn(t, env, echoScript, "--x509pop-ca", pemFile(t, env.Dir, "company.pem", company.Root),
		"--kube-api-url", kube.URL, "--kube-ca", pemFile(t, env.Dir, "kube.pem", kube.Certificate()), "--kube-token-file", reviewer)
	w.apply(t, plain(1))

	leaf, err := company.Agent("default", "helper", "")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := x509.ParseCertificates(append(append([]byte{}, leaf.Chain[0]...), leaf.Chain[1]...))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	key, token, wrong := filepath.Join(env.Dir, "key.pem"), filepath.Join(env.Dir, "projected"), filepath.Join(env.Dir, "wrong")
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write(t, token, []byte(projected))
	write(t, wrong, []byte("stolen"))
	roots := "AGENTD_ROOTS_FILE=" + pemFile(t, env.Dir, "roots.pem", env.CA.Root)
	cases := map[string]struct {
		vars []string
		want string // the proof
		why  string // or the reason
	}{
		"certificate":     {vars: []string{roots, "AGENTD_X509POP_CERT=" + pemFile(t, env.Dir, "cert.pem", certs...), "AGENTD_X509POP_KEY=" + key}, want: "x509pop"},
		"service-account": {vars: []string{roots, "AGENTD_KUBERNETES_TOKEN_FILE=" + token}, want: "kubernetes"},
		"wrong-token":     {vars: []string{roots, "AGENTD_KUBERNETES_TOKEN_FILE=" + wrong}, why: "kubernetes: control plane"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{Instance: name, ModelBaseURL: w.url, Vars: c.vars})
			if err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				if id := connected(t, a.URL()); id.Proof != c.want {
					t.Errorf("identity %+v, want by %s", id, c.want)
				}
				return
			}
			eventually(t, 10*time.Second, func(ctx context.Context) error {
				id, err := identityAt(ctx, a.URL())
				if err == nil && (id.Serial != "" || !strings.Contains(id.Problem, c.why)) {
					err = fmt.Errorf("identity %+v, want none: %s", id, c.why)
				}
				return err
			})
		})
	}
}
