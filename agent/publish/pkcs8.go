package publish

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// The structures of an encrypted private key: RFC 5958 section 3, and PBES2
// with PBKDF2 from RFC 8018 appendix A, which is what OpenSSL has written for
// ssl.key.password since 1.1.
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2Params struct {
	KDF, Scheme pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// maxIterations bounds the work that a key file can ask for; OpenSSL writes
// 2,048, careful people some hundred thousand.
const maxIterations = 10_000_000

// decryptPKCS8 gives the plain PKCS#8 form of an encrypted private key.
func decryptPKCS8(der, password []byte) ([]byte, error) {
	var key encryptedKey
	if rest, err := asn1.Unmarshal(der, &key); err != nil || len(rest) > 0 {
		return nil, errors.New("the encrypted key is malformed")
	}
	if id := key.Algorithm.Algorithm.String(); id != "1.2.840.113549.1.5.13" {
		return nil, fmt.Errorf("it is encrypted by %s, and only PBES2 is read here; rewrite it with: openssl pkcs8 -topk8 -v2 aes-256-cbc", id)
	}
	var params pbes2Params
	if _, err := asn1.Unmarshal(key.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, errors.New("the encrypted key's parameters are malformed")
	}
	if id := params.KDF.Algorithm.String(); id != "1.2.840.113549.1.5.12" {
		return nil, fmt.Errorf("its password function is %s, and only PBKDF2 is read here", id)
	}
	var kdf pbkdf2Params
	if _, err := asn1.Unmarshal(params.KDF.Parameters.FullBytes, &kdf); err != nil || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, errors.New("the encrypted key's parameters are malformed")
	}
	prf, err := prfOf(kdf.PRF.Algorithm.String())
	if err != nil {
		return nil, err
	}
	size, block, err := cipherOf(params.Scheme.Algorithm.String())
	if err != nil {
		return nil, err
	}
	var iv []byte
	if _, err := asn1.Unmarshal(params.Scheme.Parameters.FullBytes, &iv); err != nil {
		return nil, errors.New("the encrypted key's parameters are malformed")
	}
	secret, err := pbkdf2.Key(prf, string(password), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	b, err := block(secret)
	if err != nil {
		return nil, err
	}
	n := len(key.Data)
	if len(iv) != b.BlockSize() || n == 0 || n%b.BlockSize() != 0 {
		return nil, errors.New("the encrypted key is malformed")
	}
	plain := make([]byte, n)
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, key.Data)
	// RFC 8018 section 6.1.1 step 4: 1 to block size bytes of that value.
	pad := int(plain[n-1])
	if pad < 1 || pad > b.BlockSize() {
		return nil, errWrongPassword
	}
	plain = plain[:n-pad]
	if _, err := x509.ParsePKCS8PrivateKey(plain); err != nil {
		return nil, errWrongPassword
	}
	return plain, nil
}

var errWrongPassword = errors.New("ssl.key.password does not open it")

func prfOf(id string) (func() hash.Hash, error) {
	switch id {
	case "", "1.2.840.113549.2.7":
		return sha1.New, nil
	case "1.2.840.113549.2.9":
		return sha256.New, nil
	case "1.2.840.113549.2.10":
		return sha512.New384, nil
	case "1.2.840.113549.2.11":
		return sha512.New, nil
	}
	return nil, fmt.Errorf("its password function uses %s, which is not read here", id)
}

func cipherOf(id string) (size int, block func([]byte) (cipher.Block, error), err error) {
	switch id {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher, nil
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher, nil
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher, nil
	case "1.2.840.113549.3.7":
		return 24, des.NewTripleDESCipher, nil
	}
	return 0, nil, fmt.Errorf("its cipher is %s, and only AES and triple DES in CBC mode are read here", id)
}
