/* SPDX-License-Identifier: MIT */
/* Takes most of the static TLS that glibc keeps for libraries opened at run time, as a graphics
 * driver or an OpenMP runtime may have done before the library is opened.
 */
char *tls_hog(void);

static __thread char hog[1024] __attribute__((tls_model("initial-exec")));

char *tls_hog(void)
{
    return hog;
}
