/* Prints the primes up to a limit. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    int limit = argc > 1 ? atoi(argv[1]) : 100;
    for (int n = 2; n <= limit; n++) {
        int prime = 1;
        for (int d = 2; d * d <= n && prime; d++)
            prime = n % d != 0;
        if (prime)
            printf("%d ", n);
    }
    putchar('\n');
    return 0;
}
